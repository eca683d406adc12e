"""Every kind of training run, put together from its parts: network, data, learner, trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.network.chpnet import Student, build_student
from chpnet_training.agreement import first_alone
from chpnet_training.bank import SourceBank
from chpnet_training.checkpoint import (
    give_weights,
    given_to,
    read_checkpoint,
    stored_recipe,
    warn_of_unfinished,
    weights_identity,
)
from chpnet_training.dataset import Batch, FixedSlices, Slices
from chpnet_training.distillation import Distillation
from chpnet_training.identity import Identity
from chpnet_training.processes import explained
from chpnet_training.recipe import Recipe
from chpnet_training.supervised import Supervised
from chpnet_training.teacher import SwinTeacher
from chpnet_training.trainer import Trainer, begun_run
from chpnet_training.unet import UNet
from chpnet_training.validation import batches_of

if TYPE_CHECKING:
    from lightning.fabric import Fabric

logger = logging.getLogger(__name__)

NETWORKS = ("student", "teacher", "unet")


@dataclass
class Materials:
    """What a run is made from.

    Attributes:
        fabric: Where to train; launched already.
        bank: File of training images (`chpnet-train prepare`).
        out: Folder of the run.
        cache: Folder for slices that are simulated once; by default beside the run.
        workers: Processes that simulate data.
        progress: Told of slices made and wanted while they are simulated.
    """

    fabric: Fabric
    bank: Path
    out: Path
    cache: Path | None = None
    workers: int = 0
    progress: Callable[[int, int], None] | None = None


def build_network(recipe: Recipe, name: str) -> nn.Module:
    """An untrained network of the recipe (a name of `NETWORKS`), the same for the same seed."""
    torch.manual_seed(recipe.seed)
    if name == "teacher":
        return SwinTeacher(recipe.teacher, recipe.student.task)
    if name == "unet":
        return UNet(recipe.unet, recipe.student.task)
    if name == "student":
        return build_student(recipe.student)
    raise ConfigurationError(f"expected a network of {', '.join(NETWORKS)}, found '{name}'")


@explained()
def supervised_run(
    recipe: Recipe, name: str, materials: Materials, initial: Path | None = None
) -> Trainer:
    """Train one network on the truth.

    Args:
        recipe: What to do.
        name: "student", "teacher" or "unet".
        materials: Data, devices, folders.
        initial: Checkpoint, or card of a model, whose weights the network begins with.
    """
    network = build_network(recipe, name)
    given: dict[str, Identity] = {}
    if initial is not None:
        given["initial"] = begin_with(network, name, initial)
    learner = Supervised(materials.fabric, network, recipe, name)
    return _trainer(recipe, learner, materials, given)


@explained()
def distillation_run(
    recipe: Recipe, teacher: Path, materials: Materials, initial: Path | None = None
) -> Trainer:
    """Train a student with a teacher.

    Args:
        recipe: What to do.
        teacher: Checkpoint of a trained teacher.
        materials: Data, devices, folders.
        initial: Checkpoint, or card of a model, whose weights the student begins with.
    """
    student = build_network(recipe, "student")
    given: dict[str, Identity] = {}
    if initial is not None:
        given["initial"] = begin_with(student, "student", initial)
    master = SwinTeacher(recipe.teacher, recipe.student.task)
    state = read_checkpoint(teacher)
    give_weights(master, "teacher", state, teacher)
    if not isinstance(student, Student):
        raise TypeError(f"expected a student, found {type(student).__name__}")
    learner = Distillation(materials.fabric, student, master, recipe)
    given["teacher"] = weights_identity(teacher, state["networks"]["teacher"])
    if materials.fabric.is_global_zero:
        warn_of_unfinished(teacher, state)
        warn_of_other_data(teacher, given_to(state), SourceBank.load(materials.bank).identity)
    return _trainer(recipe, learner, materials, given)


def warn_of_other_data(teacher: Path, given: Mapping[str, Identity], data: Identity) -> None:
    """Tell where a teacher may have been trained on the images that its student is scored on.

    Args:
        teacher: Its checkpoint.
        given: What it was trained with, by option; empty where its checkpoint does not say.
        data: What the student is trained and scored with.
    """
    before = given.get("data")
    if before is not None and before.checksum != data.checksum:
        logger.warning(
            "%s: trained with %s, not with %s: it may have seen images that its student is scored "
            "on",
            teacher,
            before,
            data,
        )


def begin_with(network: nn.Module, name: str, initial: Path) -> Identity:
    """Give a network the weights of a checkpoint, or those of an installed model or card.

    Returns:
        By what these weights are known again.
    """
    if initial.suffix == ".ckpt":
        state = read_checkpoint(initial)
        give_weights(network, name, state, initial)
        return weights_identity(initial, state["networks"][name])
    from chpnet_stream.network.weights import find_model, load_student

    found = find_model(str(initial))
    model = load_student(found)
    try:
        network.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise ConfigurationError(
            f"{initial}: expected the architecture of the recipe's student, found "
            f"{model.config.architecture} with widths {list(model.config.widths)}; copy the "
            "'student' section of its card into the recipe"
        ) from error
    return Identity(found.card.name, found.card.weights_sha256)


def training_slices(recipe: Recipe, materials: Materials) -> Any:
    """The slices that training draws from."""
    slices = Slices(materials.bank, "train", recipe)
    if recipe.data.fixed == 0:
        return slices
    folder = materials.cache or materials.out / "data"
    count, file = recipe.data.fixed, folder / "train.pt"

    def make(beat: Callable[[], None]) -> None:
        def tell(made: int, wanted: int) -> None:
            beat()
            if materials.progress is not None:
                materials.progress(made, wanted)

        if not file.exists():
            FixedSlices(slices, count, file, recipe.seed, tell, materials.workers)

    first_alone(materials.fabric, make)
    return FixedSlices(slices, count, file, recipe.seed)


def validation_batches(
    recipe: Recipe, bank: Path, device: torch.device | str = "cpu"
) -> list[Batch]:
    """The held-back slices of a recipe: the same for every network and seed of the same data."""
    slices = Slices(bank, "val", recipe)
    return batches_of(slices, recipe.validation.slices, recipe.data.batch, device)


def _trainer(
    recipe: Recipe,
    learner: Any,
    materials: Materials,
    given: Mapping[str, Identity],
) -> Trainer:
    """What can be refused is asked before slices are simulated, which may take long."""
    fabric = materials.fabric
    given = {"data": SourceBank.load(materials.bank).identity, **given}
    begun = begun_run(materials.out, recipe, given, fabric, learner.networks())
    held_back = validation_batches(recipe, materials.bank, fabric.device)
    return Trainer(
        fabric,
        recipe,
        learner,
        training_slices(recipe, materials),
        held_back,
        materials.out,
        given=given,
        begun=begun,
        # slices that are kept are only read
        workers=min(materials.workers, 1) if recipe.data.fixed else materials.workers,
    )


def evaluated_network(checkpoint: Path, name: str = "student") -> tuple[nn.Module, Recipe]:
    """The averaged network of a checkpoint, for scoring, and its recipe."""
    return network_of(read_checkpoint(checkpoint), checkpoint, name)


def network_of(state: dict[str, Any], checkpoint: Path, name: str) -> tuple[nn.Module, Recipe]:
    """As `evaluated_network`, from a checkpoint that has been read."""
    recipe = stored_recipe(state, checkpoint)
    network = build_network(recipe, name)
    give_weights(network, name, state, checkpoint)
    return network.eval().requires_grad_(False), recipe
