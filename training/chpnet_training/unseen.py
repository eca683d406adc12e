"""The slices that a study is scored on: never those that its validation looks at.

They come from the split "test" where the data have images there (`chpnet-train prepare --test`).
Where not, they show subjects of the validation, with another contrast, other coils, noise and masks
than the slices of the validation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from chpnet_training.bank import SourceBank
from chpnet_training.dataset import Batch, Slices
from chpnet_training.recipe import Recipe
from chpnet_training.validation import batches_of

UNSEEN = 2
"""Third part of the seeds of these slices; 0 is training, 1 the validation (`dataset.Slices`)."""


class UnseenSlices(Slices):
    """Slices to score a study on.

    Attributes:
        split: "test", or "val" where the data have no test images of the recipe.

    Args:
        bank: File of training images.
        recipe: What to draw.
    """

    def __init__(self, bank: Path, recipe: Recipe) -> None:
        self.split = unseen_split(SourceBank.load(bank), recipe)
        super().__init__(bank, self.split, recipe)
        self.seed = (recipe.data_seed, UNSEEN)


def images_of(bank: SourceBank, split: str, recipe: Recipe) -> np.ndarray:
    """Numbers of a split's images that the recipe takes by their origin; may be none."""
    indices = bank.indices(split)
    fits = [str(origin).startswith(recipe.data.origin) for origin in bank.origins[indices]]
    return np.asarray(indices[np.array(fits, dtype=bool)])


def unseen_split(bank: SourceBank, recipe: Recipe) -> str:
    """Whether a study is scored on the split "test" or, without such images, on "val"."""
    return "test" if images_of(bank, "test", recipe).size else "val"


def unseen_batches(recipe: Recipe, bank: Path) -> list[Batch]:
    """As many test slices as `recipe.validation.slices`: the same for every network and seed."""
    return batches_of(UnseenSlices(bank, recipe), recipe.validation.slices, recipe.data.batch)
