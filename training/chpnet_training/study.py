"""An ablation study as a file: one recipe, several arms, several seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from chpnet_training.recipe import Recipe, load_settings

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

    name: str
    title: str = Field("", description="heading of the report")
    recipe: Recipe
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    arms: dict[str, dict[str, Any]] = Field(
        ARMS, min_length=1, description="changes of the section `distillation`, by arm"
    )
    unet: bool = Field(True, description="train the plain U-Net of the recipe as well")
    conditions: tuple[Condition, ...] = Field(min_length=1)
    test_slices: int = Field(64, ge=1, description="held-back slices for each condition")

    def arm_recipe(self, arm: str, seed: int) -> Recipe:
        """The recipe of one run."""
        content = self.recipe.model_dump()
        content["seed"] = seed
        content["data"]["seed"] = self.recipe.data_seed
        content["distillation"] |= self.arms.get(arm, {})
        return Recipe.model_validate(content)

    def condition_recipe(self, condition: Condition) -> Recipe:
        """The recipe whose held-back slices are the test of a condition."""
        content = self.recipe.model_dump()
        for key, value in condition.settings.items():
            section = content
            *parents, last = key.split(".")
            for parent in parents:
                section = section[parent]
            section[last] = value
        content["validation"]["slices"] = self.test_slices
        content["data"]["seed"] = self.recipe.data_seed
        return Recipe.model_validate(content)


def load_study(path: Path, overrides: tuple[str, ...] = ()) -> Study:
    """Read and check a study (YAML); see `load_recipe`."""
    study: Study = load_settings(Study, path, overrides)
    for arm, changes in study.arms.items():
        # an unknown switch must stop the study now, not after the first arm has been trained
        load_settings(Study, path, (*overrides, *_as_overrides(changes)))
        del arm
    for condition in study.conditions:
        study.condition_recipe(condition)
    return study


def _as_overrides(changes: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"recipe.distillation.{key}={value}" for key, value in changes.items())
