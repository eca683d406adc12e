"""Training runs of seconds, of every kind: student, teacher, distill."""

import math
from pathlib import Path

import torch
from lightning.fabric import Fabric

from chpnet_training.devices import make_fabric
from chpnet_training.recipe import Recipe
from chpnet_training.runs import Materials, distillation_run, supervised_run
from chpnet_training.trainer import CHECKPOINT, Trainer
from tests.training.tiny import tiny_recipe

KINDS = ("student", "teacher", "distill")
TEACHER = {"width": 8, "heads": 2, "blocks": 2, "window": 4, "iterations": 2, "cg_steps": 2}
DISTILLATION = {"gate_rate": 0.3, "gate_price": 0.5, "finish": 0.34, "hints": 0.1}


def recipe_for_all(steps: int = 6, every: int = 2, **sections: dict) -> Recipe:
    """`tiny_recipe` with a teacher; sections are merged into it, `optimizer={"clip": 0.5}`."""
    content = tiny_recipe(steps, every).model_dump()
    content["teacher"] |= TEACHER
    content["distillation"] |= DISTILLATION
    for name, changes in sections.items():
        content[name] |= changes
    return Recipe.model_validate(content)


def cpu(**options) -> Fabric:
    """Fabric for one process on the CPU."""
    fabric = make_fabric(accelerator="cpu", **options)
    fabric.launch()
    return fabric


def make_run(
    kind: str,
    recipe: Recipe,
    bank: Path,
    folder: Path,
    *,
    teacher: Path | None = None,
    fabric: Fabric | None = None,
    workers: int = 0,
) -> Trainer:
    """A run of one of `KINDS`, or of the `unet`."""
    materials = Materials(fabric or cpu(), bank, folder, workers=workers)
    if kind != "distill":
        return supervised_run(recipe, kind, materials)
    assert teacher is not None
    return distillation_run(recipe, teacher, materials)


def state_of(folder: Path, name: str = CHECKPOINT) -> dict:
    """What a checkpoint holds."""
    return torch.load(folder / name, weights_only=True)


def assert_same(one, two, place: str = "") -> None:
    """Bit for bit, at any depth."""
    assert type(one) is type(two), place
    if isinstance(one, dict):
        assert one.keys() == two.keys(), place
        for key in one:
            assert_same(one[key], two[key], f"{place}/{key}")
    elif isinstance(one, (list, tuple)):
        for i, (a, b) in enumerate(zip(one, two, strict=True)):
            assert_same(a, b, f"{place}/{i}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), place
    else:
        assert one == two or (one != one and two != two), place


def spoil(network: torch.nn.Module) -> None:
    """Make the first weights of a network infinite."""
    with torch.no_grad():
        next(network.parameters()).fill_(math.inf)
