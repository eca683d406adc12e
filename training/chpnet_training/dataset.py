"""Endless simulated training samples, each a function of the seed and its number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from chpnet_stream.network.normal import ColumnNormal, Normal, to_channels
from chpnet_stream.physics.classical import cg_sense
from chpnet_stream.physics.operators import ColumnSense
from chpnet_training.simulation import Sample, SimulationConfig, simulate_samples
from chpnet_training.sources import SourceBank

START_REGULARIZATION = 1e-2
START_ITERATIONS = 6


@dataclass
class Batch:
    """Strips with the same number of lines, in units of the object's 99th percentile.

    Attributes:
        start: CG-SENSE images, `batch 2 y x`.
        adjoint: A* y, `batch 2 y x`.
        target: Truth, `batch 2 y x`.
        normal: A* A.
        noise: `batch 1 1 1`.
    """

    start: Tensor
    adjoint: Tensor
    target: Tensor
    normal: Normal
    noise: Tensor


class SimulatedSlices(Dataset[list[Sample]]):
    """Simulated slices; item i is the same for the same seed on every run and worker.

    Args:
        bank: File of training images (`chpnet_training.sources`).
        split: "train" or "val".
        config: Ranges of the simulation.
        seed: Seed of everything that is drawn.
    """

    def __init__(self, bank: Path, split: str, config: SimulationConfig, seed: int) -> None:
        self.bank = SourceBank.load(bank)
        self.indices = self.bank.indices(split)
        weights = self.bank.weights[self.indices]
        self.cumulative = np.cumsum(weights / weights.sum())
        self.config = config
        self.seed = (seed, 0 if split == "train" else 1)

    def __getitem__(self, number: int) -> list[Sample]:
        """Simulate slice `number` (any non-negative integer)."""
        rng = np.random.default_rng([*self.seed, number])
        place = int(np.searchsorted(self.cumulative, rng.random(), side="right"))
        picture = self.bank[int(self.indices[min(place, len(self.indices) - 1)])]
        return simulate_samples(picture, self.config, rng)


class _Counting(Sampler[int]):
    """The numbers from `first` to before `last`."""

    def __init__(self, first: int, last: int) -> None:
        self.range = range(first, last)

    def __iter__(self) -> Iterator[int]:
        return iter(self.range)

    def __len__(self) -> int:
        return len(self.range)


def sample_loader(
    dataset: SimulatedSlices, first: int, last: int, workers: int
) -> DataLoader[list[Sample]]:
    """Load slices `first` to before `last`, in order, whatever the number of workers."""
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=_Counting(first, last),
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        worker_init_fn=_one_thread,
    )


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def collate(samples: list[Sample]) -> Batch:
    """Make the student's inputs from the samples of one slice."""
    mask = torch.stack([s.mask for s in samples])
    maps = torch.stack([s.maps for s in samples])
    adjoint = torch.stack([s.adjoint for s in samples])
    target = torch.stack([s.target for s in samples])
    operator = ColumnSense(maps, mask)
    start = cg_sense(
        operator.normal_columns,
        adjoint.mT.contiguous(),
        regularization=START_REGULARIZATION,
        iterations=START_ITERATIONS,
        tolerance=0.0,
    ).mT
    noise = torch.tensor([s.noise for s in samples]).reshape(-1, 1, 1, 1)
    return Batch(
        to_channels(start),
        to_channels(adjoint),
        to_channels(target),
        ColumnNormal(operator),
        noise,
    )
