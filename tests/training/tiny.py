"""A bank of four small images and a recipe that runs in seconds."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from chpnet_training.recipe import Recipe
from chpnet_training.store import BankWriter
from tests.physics.cases import phantom

SIMULATION = {
    "matrix_y": (32, 40),
    "matrix_x": (32, 40),
    "strip": 24,
    "strips": 1,
    "coils": (4, 5),
    "virtual_coils": 4,
    "accelerations": (2, 3),
    "calibration": (12, 14),
    "noise": (0.01, 0.03),
}


def tiny_bank(
    path: Path,
    sides: tuple[str, ...] = ("train", "train", "train", "val"),
    kspace: Mapping[int, np.ndarray] = MappingProxyType({}),
) -> Path:
    """Write a bank of four images, by default three to train on and one for validation.

    Args:
        path: The file.
        sides: Split of each image.
        kspace: `coils ky kx` that images are from, by their number.
    """
    with BankWriter(path, 72) as writer:
        for i in range(4):
            writer.add(phantom((64, 48 + 8 * i)).numpy(), kspace.get(i))
        writer.finish(
            weights=np.ones(4),
            split=np.array(sides, dtype=object),
            subjects=np.array(["a", "b", "c", "d"], dtype=object),
            origins=np.array(["phantom/a", "phantom/b", "phantom/c", "phantom/d"], dtype=object),
            manifest={"sources": {"phantom": {"licence": "MIT"}}},
        )
    return path


def tiny_recipe(steps: int = 6, every: int = 2, **optimizer) -> Recipe:
    """A recipe with a network of a few thousand weights."""
    return Recipe.model_validate(
        {
            "name": "tiny",
            "seed": 3,
            "student": {"widths": (4, 8), "iterations": 2},
            "simulation": SIMULATION,
            "optimizer": {"steps": steps, "warmup": 2, "learning_rate": 2e-3} | optimizer,
            "validation": {"slices": 2, "every": every},
        }
    )
