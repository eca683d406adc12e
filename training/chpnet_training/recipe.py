"""Training recipes: YAML files whose every key is checked."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.network.config import StudentConfig
from chpnet_training.simulation import SimulationConfig


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LossConfig(_Section):
    """Weights of the loss terms beside the image's L1 distance."""

    edge: float = Field(0.3, ge=0, description="L1 distance of the edges of the magnitudes")
    ssim: float = Field(0.1, ge=0, description="1 - SSIM of the magnitudes")


class OptimizerConfig(_Section):
    """AdamW with a linear warm-up and a cosine to zero, and averaged weights."""

    steps: int = Field(10_000, ge=1, description="optimizer steps")
    learning_rate: float = Field(6e-4, gt=0)
    warmup: int = Field(300, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(1e-3, ge=0)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    average: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights")


class ValidationConfig(_Section):
    """Simulated slices of subjects that training never sees."""

    slices: int = Field(16, ge=1)
    every: int = Field(500, ge=1, description="steps between two validations and checkpoints")


class Recipe(_Section):
    """Everything that determines a training run."""

    name: str
    seed: int = 0
    student: StudentConfig = StudentConfig()
    simulation: SimulationConfig = SimulationConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    validation: ValidationConfig = ValidationConfig()


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: YAML file.
        overrides: ``a.b=value`` pairs, values in YAML.

    Raises:
        ConfigurationError: If the file is no YAML mapping, a key is unknown (the near name is
            suggested) or a value does not fit.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        detail = " ".join(str(error).split())
        raise ConfigurationError(f"{path}: expected a YAML recipe, found: {detail}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"{path}: expected a mapping of settings, found {type(content).__name__}"
        )
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise ConfigurationError(f"--set {override}: expected a.b=value")
        section = content
        *parents, last = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigurationError(f"--set {override}: '{parent}' is not a section")
        try:
            section[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigurationError(f"--set {override}: expected a value in YAML") from error
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    """One line that names the first fault and, for an unknown key, the near name."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"expected the setting '{place}', found none"
    if first["type"] != "extra_forbidden":
        return f"'{place}' = {first['input']!r}: {first['msg']}"
    model: Any = Recipe
    for part in first["loc"][:-1]:
        model = model.model_fields[str(part)].annotation
    known = list(model.model_fields)
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
    return f"unknown setting '{place}'; {hint}"
