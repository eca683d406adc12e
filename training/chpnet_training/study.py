"""An ablation study as a file: one recipe, several arms, several seeds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from chpnet_stream.errors import ConfigurationError
from chpnet_training.recipe import Name, Recipe, load_settings, put

ARMS: dict[str, dict[str, Any]] = {
    "none": {"weight": 0.0, "hints": 0.0, "iterates": 0.0},
    "frozen": {
        "correction": False,
        "feedback": False,
        "parameters": False,
        "structure": False,
    },
    "dynamic-parameters": {"structure": False},
    "dynamic": {},
}
"""The arms of a study that names none: what each changes in the recipe's `distillation`."""
OTHERS = ("start", "teacher", "unet")
"""What stands beside the arms in tables and folders."""


class Condition(BaseModel):
    """A kind of test scan.

    Attributes:
        name: As it stands in tables.
        settings: What it changes in the recipe, as `a.b: value`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    settings: dict[str, Any] = {}


class Study(BaseModel):
    """What `chpnet-train ablate` does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    title: str = Field("", description="heading of the report")
    recipe: Recipe
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    arms: dict[str, dict[str, Any]] = Field(
        ARMS, min_length=1, description="changes of the section `distillation`, by arm"
    )
    unet: bool = Field(True, description="train the plain U-Net of the recipe as well")
    conditions: tuple[Condition, ...] = Field(min_length=1)
    test_slices: int = Field(64, ge=1, description="test slices for each condition")

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("expected every seed once")
        return seeds

    @field_validator("arms")
    @classmethod
    def _arms_are_folders(cls, arms: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for arm in arms:
            if arm in OTHERS or not re.fullmatch(r"\w[\w.-]*", arm):
                raise ValueError(
                    f"expected a name of letters, digits, '.', '_' and '-' for an arm, and none of "
                    f"{', '.join(OTHERS)}, found '{arm}'"
                )
        return arms

    @field_validator("recipe")
    @classmethod
    def _arms_have_equal_steps(cls, recipe: Recipe) -> Recipe:
        if recipe.validation.patience:
            raise ValueError(
                "expected validation.patience = 0, so that all arms make the same steps, found "
                f"{recipe.validation.patience}"
            )
        return recipe

    @field_validator("conditions")
    @classmethod
    def _conditions_differ(cls, conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
        if len({condition.name for condition in conditions}) < len(conditions):
            raise ValueError("expected every condition under a name of its own")
        return conditions

    def arm_recipe(self, arm: str, seed: int) -> Recipe:
        """The recipe of one run."""
        content = self.recipe.model_dump()
        content["seed"] = seed
        content["data"]["seed"] = self.recipe.data_seed
        content["distillation"] |= self.arms.get(arm, {})
        return Recipe.model_validate(content)

    def condition_recipe(self, condition: Condition) -> Recipe:
        """The recipe that the test slices of a condition are drawn by (`unseen_batches`)."""
        content = self.recipe.model_dump()
        for key, value in condition.settings.items():
            put(content, key, value)
        content["validation"]["slices"] = self.test_slices
        content["data"]["seed"] = self.recipe.data_seed
        return Recipe.model_validate(content)


def load_study(path: Path, overrides: tuple[str, ...] = ()) -> Study:
    """Read and check a study (YAML), with every arm and every condition; see `load_recipe`.

    Raises:
        ConfigurationError: As in `load_recipe`: now, and not after the first arm has been trained.
    """
    study: Study = load_settings(Study, path, overrides)
    for arm, changes in study.arms.items():
        settings = {f"recipe.distillation.{key}": value for key, value in changes.items()}
        _check(path, overrides, settings, f"arm '{arm}'")
    for condition in study.conditions:
        settings = {f"recipe.{key}": value for key, value in condition.settings.items()}
        _check(path, overrides, settings, f"condition '{condition.name}'")
    return study


def _check(path: Path, overrides: tuple[str, ...], settings: dict[str, Any], place: str) -> None:
    changes = tuple(f"{key}={json.dumps(value)}" for key, value in settings.items())
    try:
        load_settings(Study, path, (*overrides, *changes))
    except ConfigurationError as error:
        raise ConfigurationError(f"{error} (in the {place})") from error
