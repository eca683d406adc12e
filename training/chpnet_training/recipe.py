"""Training recipes: YAML files whose every key is checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.near import hint
from chpnet_stream.network.config import StudentConfig
from chpnet_training.simulation import SimulationConfig
from chpnet_training.superres import SuperresConfig
from chpnet_training.teacher import TeacherConfig
from chpnet_training.unet import UNetConfig

M = TypeVar("M", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LossConfig(_Section):
    """Weights of the loss terms beside the image's L1 distance."""

    edge: float = Field(0.3, ge=0, description="L1 distance of the edges of the magnitudes")
    ssim: float = Field(0.1, ge=0, description="1 - SSIM of the magnitudes")


class OptimizerConfig(_Section):
    """AdamW with a linear warm-up and a cosine to zero, and averaged weights."""

    steps: int = Field(10_000, ge=1, description="optimizer steps")
    learning_rate: float = Field(6e-4, gt=0, description="at its peak, after the warm-up")
    warmup: int = Field(300, ge=0, description="steps of linear warm-up")
    weight_decay: float = Field(1e-3, ge=0, description="of AdamW")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    average: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights")


class ValidationConfig(_Section):
    """Simulated slices of subjects that training never sees."""

    slices: int = Field(16, ge=1, description="held-back slices")
    every: int = Field(500, ge=1, description="steps between two validations and checkpoints")
    patience: int = Field(
        0,
        ge=0,
        description="validations without a better PSNR before training stops; 0: never, as "
        "distillation must have it",
    )


class DataConfig(_Section):
    """Which images are used, and how often."""

    batch: int = Field(1, ge=1, description="slices in a step, over all devices")
    fixed: int = Field(
        0, ge=0, description="slices that are simulated once and then repeated; 0: endless new ones"
    )
    images: int = Field(0, ge=0, description="training images to take, by seed; 0: all")
    origin: str = Field("", description="only images whose origin begins like this")
    seed: int | None = Field(
        None, ge=0, description="seed of the simulated data; by default that of the recipe"
    )


class DistillationConfig(_Section):
    """How the teacher teaches, and what it learns while doing so (METHOD in docs/distillation.md).

    `frozen` distillation has all switches off; the student alone has a weight of zero.
    """

    weight: float = Field(
        0.5, ge=0, le=1, description="share of the loss that compares with the teacher"
    )
    hints: float = Field(0.1, ge=0, description="weight of the feature transfer")
    iterates: float = Field(
        0.0, ge=0, description="weight of the comparison of the images between the iterations"
    )
    correction: bool = Field(True, description="correct the teacher's errors before teaching")
    feedback: bool = Field(True, description="let the usefulness of the teaching set its weight")
    useful_from: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="usefulness up to which the teaching has no weight; 0.5: a teacher that is no "
        "better than its student",
    )
    full_lag: float = Field(
        0.0,
        ge=0,
        description="lag of the student, over the teacher's error, from which the teaching has its "
        "whole weight; in proportion below, none where the student is as good; 0: always",
    )
    parameters: bool = Field(True, description="train the teacher's weights on")
    structure: bool = Field(True, description="close and open the teacher's blocks")
    pull: float = Field(
        0.5, ge=0, description="weight of the teacher's errors where the student has smaller ones"
    )
    approach: float = Field(
        0.0, ge=0, description="weight of the teacher's distance from its student"
    )
    learning_rate: float = Field(3e-4, gt=0, description="the teacher's, at its peak")
    teacher_every: int = Field(
        1, ge=1, description="student steps between two steps of the teacher"
    )
    gate_rate: float = Field(0.02, gt=0, description="learning rate of the gates")
    gate_price: float = Field(
        0.02, ge=0, description="price of an open block, times how far the student lags behind"
    )
    gap: float = Field(
        0.05, ge=0, description="lag of the student, over the teacher's error, that is in order"
    )
    finish: float = Field(
        0.1, ge=0, lt=1, description="share of the steps at the end without the teacher"
    )


def check_name(name: str) -> str:
    """A name that can be that of files.

    Raises:
        ValueError: If it can't.
    """
    if not name.isprintable() or not re.fullmatch(r"[^/\\.][^/\\]*", name):
        raise ValueError(
            "expected a name for files, without '/' and '\\' and not with '.' at its beginning, "
            f"found {name!r}"
        )
    return name


Name = Annotated[str, AfterValidator(check_name)]


class Recipe(_Section):
    """Everything that determines a training run."""

    name: Name = Field(description="name of the recipe, and of the model that is made of it")
    seed: int = Field(0, ge=0, description="seed of weights, data and gates")
    student: StudentConfig = Field(
        StudentConfig(), description="the network that is trained, exported and used"
    )
    teacher: TeacherConfig = Field(TeacherConfig(), description="the network that teaches it")
    unet: UNetConfig = Field(UNetConfig(), description="the plain U-Net that it is compared with")
    data: DataConfig = Field(DataConfig(), description="which images, and how often")
    simulation: SimulationConfig = Field(
        SimulationConfig(), description="scans of the task `kspace`"
    )
    superres: SuperresConfig = Field(
        SuperresConfig(), description="measurements of the task `superres`"
    )
    loss: LossConfig = Field(LossConfig(), description="what is minimised")
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="how it is minimised")
    warmup: OptimizerConfig | None = Field(
        None, description="optimizer of the teacher before it teaches; by default the student's"
    )
    distillation: DistillationConfig = Field(
        DistillationConfig(), description="how the teacher teaches"
    )
    validation: ValidationConfig = Field(
        ValidationConfig(),
        description="how often scores are taken, and when that ends the training",
    )

    @model_validator(mode="after")
    def _fixed_slices_fit(self) -> Recipe:
        superres = self.student.task == "superres"
        unit = self.data.batch * (len(self.superres.factors) if superres else 1)
        if self.data.fixed % unit:
            raise ValueError(
                f"data.fixed = {self.data.fixed}: expected a multiple of {unit} (data.batch, times "
                "the number of factors for superres)"
            )
        return self

    @property
    def data_seed(self) -> int:
        """Seed of the simulated data."""
        return self.seed if self.data.seed is None else self.data.seed

    def for_teacher(self) -> Recipe:
        """The same recipe with the optimizer of the teacher's warm-up."""
        return self.model_copy(update={"optimizer": self.warmup or self.optimizer})

    def with_optimizer(self, **changes: Any) -> Recipe:
        """The same recipe with other values of `optimizer`."""
        return self.model_copy(update={"optimizer": self.optimizer.model_copy(update=changes)})


def load_recipe(path: Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: YAML file.
        overrides: ``a.b=value`` pairs, values in YAML.

    Raises:
        ConfigurationError: If the file is no YAML mapping, a key is unknown (the near name is
            suggested) or a value does not fit.
    """
    return load_settings(Recipe, path, overrides)


def load_settings(model: type[M], path: Path, overrides: tuple[str, ...] = ()) -> M:
    """Read settings of any kind from YAML; see `load_recipe`.

    Args:
        model: What the file is expected to hold.
        path: YAML file.
        overrides: ``a.b=value`` pairs, values in YAML.

    Raises:
        ConfigurationError: As in `load_recipe`.
    """
    try:
        content = _yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        detail = " ".join(str(error).split())
        raise ConfigurationError(f"{path}: expected a YAML recipe, found: {detail}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"{path}: expected a mapping of settings, found {type(content).__name__}"
        )
    for override in overrides:
        _override(content, override)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_explain(model, error)}") from error


def _yaml(text: str) -> Any:
    """Plain values from YAML.

    Aliases are refused: a few lines of them can stand for more values than there is memory. So is
    a setting that stands there twice, of which YAML takes the last.

    Raises:
        ValueError: It can't be read, in words.
        RecursionError: It is too deep.
    """
    import yaml

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError("an alias (*name), expected every value written out")
        _refuse_twice(yaml.compose(text, yaml.SafeLoader))
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _refuse_twice(node: Any) -> None:
    """Look for keys that a mapping has twice, at any depth.

    Raises:
        ValueError: If there is one.
    """
    import yaml

    if isinstance(node, yaml.SequenceNode):
        for part in node.value:
            _refuse_twice(part)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    raise ValueError(
                        f"'{key.value}' in line {lines[key.value]} and again in line {line}, "
                        "expected every setting once"
                    )
                lines[key.value] = line
            _refuse_twice(value)


def differences(stored: dict[str, Any], recipe: Recipe) -> list[str]:
    """What another recipe has otherwise, as `a.b is 1 there and 2 here`; empty if nothing.

    Args:
        stored: A recipe as a checkpoint holds it; settings that it does not know yet count with
            their defaults.
        recipe: The one that is wanted.
    """
    try:
        other = Recipe.model_validate(stored)
    except ValidationError as error:
        return [_explain(Recipe, error)]
    return unlike(other.model_dump(mode="json"), recipe.model_dump(mode="json"))


def unlike(other: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What two sets of settings don't share, as in `differences`."""
    there, here = _leaves(other), _leaves(wanted)
    return [
        f"{key} is {there.get(key)} there and {here.get(key)} here"
        for key in dict.fromkeys((*there, *here))
        if there.get(key) != here.get(key)
    ]


def _leaves(content: Any, place: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {place: content}
    return {
        key: value
        for name, part in content.items()
        for key, value in _leaves(part, f"{place}.{name}" if place else name).items()
    }


def _override(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigurationError(f"--set {override}: expected a.b=value")
    try:
        put(content, key, _yaml(value))
    except ConfigurationError as error:
        raise ConfigurationError(f"--set {override}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"--set {override}: expected a value in YAML") from error


def put(content: dict[str, Any], key: str, value: Any) -> None:
    """Replace the setting ``a.b`` of nested mappings; sections that are not there are made.

    Raises:
        ConfigurationError: If ``a`` is a value.
    """
    section = content
    *parents, last = key.split(".")
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise ConfigurationError(f"'{parent}' is not a section")
    section[last] = value


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    """One line that names the first fault and, for an unknown key, the near name."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"expected the setting '{place}', found none"
    if first["type"] != "extra_forbidden":
        whole = isinstance(first["input"], dict)  # of a section: what is wrong is in the message
        found = f"'{place}'" if whole else f"'{place}' = {first['input']!r}"
        said = first["msg"].removeprefix("Value error, ")
        return f"{found}: {said}" if place else said
    known = _known(model, first["loc"][:-1])
    said = hint(str(first["loc"][-1]), known, "known here")
    return f"unknown setting '{place}'; {said}"


def _known(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Names of the settings of a section."""
    section: Any = model
    for part in place:
        if isinstance(part, int):
            continue
        section = section.model_fields[part].annotation
        section = next(
            (kind for kind in (section, *get_args(section)) if hasattr(kind, "model_fields")),
            None,
        )
        if section is None:
            return []
    return list(section.model_fields)
