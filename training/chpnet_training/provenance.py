"""What a network was made of: images and their licences, and the networks that it learned from.

A run keeps its `Origin` in its checkpoints, so that the card of a model names all data and all
steps behind its weights, however many runs lie between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from chpnet_stream.network.card import TrainingData

if TYPE_CHECKING:
    from chpnet_training.recipe import Recipe


class Parent(BaseModel):
    """A network that another one began with or was taught by.

    Attributes:
        name: What it is, in words.
        steps: Optimizer steps in it, those of what it began with included.
        training: How it was trained, in words.
        data: All that it was trained on.
        known: Whether `data` is all; checkpoints of older versions don't tell.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)  # later versions may tell more

    name: str
    steps: int
    training: str
    data: tuple[TrainingData, ...] = ()
    known: bool = True


class Origin(BaseModel):
    """What a run is made from.

    Attributes:
        data: Sources that it trains on, with the images it takes of them.
        measured: How many of these images are used as measured k-space.
        initial: The network that it began with, if any.
        teacher: The network that teaches it, if any.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)  # later versions may tell more

    data: tuple[TrainingData, ...] = ()
    measured: int = 0
    initial: Parent | None = None
    teacher: Parent | None = None

    @property
    def parents(self) -> list[Parent]:
        """Networks that it learned from."""
        return [parent for parent in (self.initial, self.teacher) if parent is not None]

    @property
    def all_data(self) -> tuple[TrainingData, ...]:
        """Its sources and those of its parents, each once."""
        return merged((self.data, *(parent.data for parent in self.parents)))


def merged(groups: Iterable[tuple[TrainingData, ...]]) -> tuple[TrainingData, ...]:
    """Sources of several runs, each name and licence once, with the most images taken of it."""
    found: dict[tuple[str, str], TrainingData] = {}
    for source in (source for group in groups for source in group):
        key = source.name, source.licence
        if key not in found or found[key].images < source.images:
            found[key] = source
    return tuple(found.values())


def origin_of_run(
    recipe: Recipe, bank: Path, *, initial: Path | None = None, teacher: Path | None = None
) -> Origin:
    """The origin of a run.

    Args:
        recipe: Which images it takes.
        bank: File of training images.
        initial: Checkpoint, installed model or card that it begins with.
        teacher: Checkpoint of its teacher.
    """
    from chpnet_training.dataset import Slices

    slices = Slices(bank, "train", recipe)
    taken = Counter(
        _source_of(str(slices.bank.origins[index]), slices.bank.manifest["sources"])
        for index in slices.indices
    )
    measured = slices.bank.raw[slices.indices].sum() if recipe.student.task == "kspace" else 0
    return Origin(
        data=tuple(
            TrainingData(name=name, licence=facts["licence"], images=taken[name])
            for name, facts in slices.bank.manifest["sources"].items()
            if taken[name]
        ),
        measured=int(measured),
        initial=None if initial is None else parent_of(initial),
        teacher=None if teacher is None else parent_of(teacher, "teacher"),
    )


def _source_of(origin: str, sources: Iterable[str]) -> str:
    """The source of an image; names of sources may begin alike."""
    fitting = [name for name in sources if origin.startswith(f"{name}/")]
    return max(fitting, key=len, default="")


def parent_of(path: Path, network: str = "student") -> Parent:
    """What is known of a checkpoint, an installed model or the model of a card.

    Args:
        path: The file, or the name of the installed model.
        network: Which network of the checkpoint.
    """
    if path.suffix != ".ckpt":
        from chpnet_stream.network.weights import find_model

        card = find_model(str(path)).card
        return Parent(
            name=f"the model {card.name} ({card.checksum})",
            steps=card.steps,
            training=card.training,
            data=card.data,
        )
    from chpnet_training.checkpoint import read_checkpoint

    state = read_checkpoint(path)
    origin = origin_of(state)
    return Parent(
        name=f"a {network} of the recipe '{state['recipe']['name']}'",
        steps=all_steps(state),
        training=training_of(state, origin),
        data=() if origin is None else origin.all_data,
        known=origin is not None and all(parent.known for parent in origin.parents),
    )


def origin_of(state: dict[str, Any]) -> Origin | None:
    """The origin that a checkpoint holds; None in those of older versions."""
    return Origin.model_validate(state["about"]) if state.get("about") else None


def all_steps(state: dict[str, Any]) -> int:
    """Optimizer steps in the student of a checkpoint, those of what it began with included."""
    origin = origin_of(state)
    begun = 0 if origin is None or origin.initial is None else origin.initial.steps
    return begun + int(state["step"])


def training_of(state: dict[str, Any], origin: Origin | None) -> str:
    """How the networks of a checkpoint were trained, in words.

    Args:
        state: What the checkpoint holds.
        origin: What is known of their data; `origin_of` the checkpoint, or by the data of its run.
    """
    said = [_learned(state, origin)]
    if origin_of(state) is None:
        said.append("what it began with is not recorded")
    elif origin is not None and origin.initial is not None:
        begun = origin.initial
        said.append(
            f"{state['step']:,} steps, begun with {begun.name} of {begun.steps:,} steps "
            f"({begun.training})"
        )
    unknown = [] if origin is None else [parent for parent in origin.parents if not parent.known]
    said += [f"not all data of {parent.name} are known" for parent in unknown]
    return "; ".join(said)


def _learned(state: dict[str, Any], origin: Origin | None) -> str:
    how = state["recipe"].get("distillation", {})
    if not ({"student", "teacher"} <= state["networks"].keys() and how.get("weight", 0) > 0):
        return f"supervised on {_scans(origin)}, without a teacher"
    learns = how.get("parameters") or how.get("structure")
    kind = "a teacher that learned while it taught" if learns else "a frozen teacher"
    return f"distilled on {_scans(origin)} from {kind}"


def _scans(origin: Origin | None) -> str:
    if origin is None or not origin.measured:
        return "simulated scans"
    if origin.measured >= sum(source.images for source in origin.data):
        return "measured k-space"
    return "measured k-space and simulated scans"
