"""Endless training samples, each a function of the seed and its number."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Sampler

from chpnet_stream.errors import ChpnetError, ConfigurationError, InputError
from chpnet_stream.network.normal import (
    ColumnNormal,
    Normal,
    SuperresNormal,
    superres_start,
    to_channels,
)
from chpnet_stream.physics.classical import cg_sense
from chpnet_stream.physics.operators import ColumnSense
from chpnet_training.checkpoint import DamagedFileError, load_tensors, save_tensors
from chpnet_training.identity import Identity
from chpnet_training.measured import measured_samples
from chpnet_training.recipe import Recipe
from chpnet_training.simulation import Sample, simulate_samples
from chpnet_training.sources import SourceBank
from chpnet_training.superres import SuperresSample, superres_sample

logger = logging.getLogger(__name__)

START_REGULARIZATION = 1e-2
START_ITERATIONS = 6


@dataclass
class Batch:
    """Images of one matrix, in units of the object's 99th percentile.

    Attributes:
        start: CG-SENSE images (`kspace`) or up-sampled ones (`superres`), `batch channels y x`.
        adjoint: A* y, `batch channels y x`.
        target: Truth, `batch channels y x`.
        normal: A* A.
        noise: `batch 1 1 1`.
    """

    start: Tensor
    adjoint: Tensor
    target: Tensor
    normal: Normal
    noise: Tensor


class Slices(Dataset[list[Any]]):
    """Slices of the recipe's task; item i is the same for the same seed on every run and worker.

    Args:
        bank: File of training images (`chpnet_training.bank`).
        split: "train" or "val".
        recipe: What to draw.
    """

    def __init__(self, bank: Path, split: str, recipe: Recipe) -> None:
        self.bank = SourceBank.load(bank)
        self.recipe = recipe
        self.indices = self._chosen(split)
        weights = self.bank.weights[self.indices]
        self.cumulative = np.cumsum(weights / weights.sum())
        self.seed = (recipe.data_seed, 0 if split == "train" else 1)

    def _chosen(self, split: str) -> np.ndarray:
        data = self.recipe.data
        origins = self.bank.origins
        indices = np.array(
            [i for i in self.bank.indices(split) if str(origins[i]).startswith(data.origin)],
            dtype=np.int64,
        )
        if indices.size == 0:
            raise InputError(
                f"{self.bank.path}: expected images of split '{split}'{self._of_origin(split)}"
            )
        if split == "train" and 0 < data.images < indices.size:
            chosen = np.random.default_rng([self.recipe.data_seed, 7]).permutation(indices)
            indices = np.sort(chosen[: data.images])
        return indices

    def _of_origin(self, split: str) -> str:
        """Why there are none of these images, and what to do."""
        origin = self.recipe.data.origin
        there = len(self.bank.indices(split))
        if there == 0:
            share = {"val": " --validation 0.1", "test": " --test 0.1"}.get(split, "")
            return f", found none at all; make it again with `chpnet-train prepare{share}`"
        return (
            f" whose origin begins with '{origin}', found none among {there}; change data.origin, "
            "or prepare more of these images"
        )

    def __getitem__(self, number: int) -> list[Any]:
        """Slice `number`, not negative: simulated, or measured where its k-space is kept."""
        rng = np.random.default_rng([*self.seed, number])
        place = int(np.searchsorted(self.cumulative, rng.random(), side="right"))
        index = int(self.indices[min(place, len(self.indices) - 1)])
        if self.recipe.student.task == "kspace":
            kspace = self.bank.kspace(index)
            if kspace is not None:
                try:
                    return list(measured_samples(kspace, self.recipe.simulation, rng))
                except InputError as error:
                    origin = self.bank.origins[index]
                    raise InputError(
                        f"{self.bank.path}: image {index} ({origin}): {error}"
                    ) from error
        picture = self.bank[index]
        if self.recipe.student.task == "superres":
            factors = self.recipe.superres.factors
            factor = factors[number // self.recipe.data.batch % len(factors)]
            return [superres_sample(picture, self.recipe.superres, factor, rng)]
        return list(simulate_samples(picture, self.recipe.simulation, rng))


class FixedSlices(Dataset[list[Any]]):
    """The first slices of a dataset, simulated once, kept in a file, repeated in random order.

    Args:
        slices: Where they come from.
        count: How many are kept.
        file: Where they are kept; made if it is not there.
        seed: Seed of the order, which changes every time all have been seen.
        progress: Called with the slices made and wanted while they are made.
        workers: Processes that simulate them, from two on; else this one does.
    """

    def __init__(
        self,
        slices: Slices,
        count: int,
        file: Path,
        seed: int,
        progress: Callable[[int, int], None] | None = None,
        workers: int = 0,
    ) -> None:
        self.count, self.seed = count, seed
        self._order: tuple[int, np.ndarray] = (-1, np.arange(0))
        if not file.exists():
            made = []
            for samples in _simulated(slices, count, workers):
                made.append(samples)
                if progress is not None:
                    progress(len(made), count)
            file.parent.mkdir(parents=True, exist_ok=True)
            about = {
                "recipe": describe_data(slices.recipe),
                "data": asdict(slices.bank.identity),
            }
            save_tensors(file, {"slices": made, **about})
        self.slices = _read_fixed(file, slices, count)
        superres = slices.recipe.student.task == "superres"
        self.kind = SuperresSample if superres else Sample
        self.batch = slices.recipe.data.batch
        self.groups = len(slices.recipe.superres.factors) if superres else 1
        if count % (self.batch * self.groups):
            raise ConfigurationError(
                f"data.fixed = {count}: expected a multiple of {self.batch * self.groups} "
                "(data.batch, times the number of factors for superres)"
            )

    def __getitem__(self, number: int) -> list[Any]:
        """Slice `number` of the endless sequence; the slices of a step have one factor."""
        epoch, place = divmod(number, self.count)
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            numbers = np.arange(self.count).reshape(-1, self.groups, self.batch)
            groups = numbers.transpose(1, 0, 2).reshape(self.groups, -1)
            mixed = np.stack([rng.permutation(group) for group in groups])
            mixed = mixed.reshape(self.groups, -1, self.batch).transpose(1, 0, 2)
            self._order = (epoch, mixed.ravel())
        return [self.kind(**fields) for fields in self.slices[int(self._order[1][place])]]


def _simulated(slices: Slices, count: int, workers: int) -> Iterator[list[dict[str, Any]]]:
    """The fields of the samples of the first slices, in order."""
    if workers < 2:
        for number in range(count):
            yield [vars(sample) for sample in slices[number]]
        return
    loader: DataLoader[list[Any]] = DataLoader(
        _Steps(slices),
        batch_size=None,
        sampler=[[number] for number in range(count)],
        num_workers=workers,
        worker_init_fn=_one_thread,
    )
    for samples in loader:  # copied: each tensor of another process keeps a file open
        if isinstance(samples[0], ChpnetError):
            raise samples[0]
        yield [
            {name: v.clone() if isinstance(v, Tensor) else v for name, v in vars(sample).items()}
            for sample in samples
        ]


def _read_fixed(file: Path, slices: Slices, count: int) -> list[list[dict[str, Any]]]:
    """What `FixedSlices` has written.

    Raises:
        InputError: If it is damaged, or made of other data or by another recipe.
    """
    try:
        content = load_tensors(file, mmap=True)
    except (DamagedFileError, FileNotFoundError) as error:
        raise InputError(
            f"{file}: expected simulated slices, found a damaged file ({error}); remove it, and "
            "they are simulated again"
        ) from error
    if content["recipe"] != describe_data(slices.recipe) or len(content["slices"]) != count:
        raise InputError(
            f"{file}: expected {count} slices of this recipe, found others; remove the file, "
            "or choose another folder"
        )
    now = slices.bank.identity
    if "data" not in content:
        logger.warning(
            "%s: does not say which data it was made of, as it is of an older version; taken for "
            "%s. If that is not so, remove it",
            file,
            now,
        )
    elif (before := Identity(**content["data"])).checksum != now.checksum:
        raise InputError(
            f"{file}: expected slices of {now}, found those of {before}; give the same data again, "
            "or choose another folder, or remove the file if no run is to be continued with it"
        )
    found: list[list[dict[str, Any]]] = content["slices"]
    return found


def describe_data(recipe: Recipe) -> str:
    """What determines the samples, as text."""
    parts = [recipe.student.task, str(recipe.data_seed), recipe.data.model_dump_json()]
    parts.append(
        recipe.superres.model_dump_json()
        if recipe.student.task == "superres"
        else recipe.simulation.model_dump_json()
    )
    return " ".join(parts)


class _Share(Sampler[list[int]]):
    """Numbers of the slices of each step from `first` to before `last`, for one of the devices."""

    def __init__(self, first: int, last: int, batch: int, rank: int, world: int) -> None:
        if batch % world:
            raise ConfigurationError(
                f"data.batch = {batch}: expected a number that {world} devices divide"
            )
        self.steps = range(first, last)
        self.batch, self.rank, self.world = batch, rank, world

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            yield list(range(step * self.batch + self.rank, (step + 1) * self.batch, self.world))

    def __len__(self) -> int:
        return len(self.steps)


class _Steps(Dataset[list[Any]]):
    """The slices of a step together; or the error instead of them, which `collate` raises.

    Raised in a worker process, it would reach this one as a traceback of that one.
    """

    def __init__(self, slices: Dataset[list[Any]]) -> None:
        self.slices = slices

    def __getitem__(self, numbers: list[int]) -> list[Any]:
        try:
            return [sample for number in numbers for sample in self.slices[number]]
        except ChpnetError as error:
            return [error]


def step_loader(
    slices: Dataset[list[Any]],
    first: int,
    last: int,
    *,
    batch: int = 1,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> DataLoader[list[Any]]:
    """The samples of steps `first` to before `last`, in order, whatever the number of workers.

    They are for `collate`.

    Args:
        slices: What to load from.
        first: Step to begin with.
        last: Step to end before.
        batch: Slices in a step, over all devices; no slice is given to two of them.
        workers: Processes that simulate; 0 simulates in this one.
        rank: This device.
        world: Number of devices.
    """
    return DataLoader(
        _Steps(slices),
        batch_size=None,
        sampler=_Share(first, last, batch, rank, world),
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        worker_init_fn=_one_thread,
    )


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def collate(samples: Sequence[Any], device: torch.device | str = "cpu") -> Batch:
    """Make the networks' inputs from samples of one matrix.

    Args:
        samples: All of the same task and matrix (and factor, for `superres`).
        device: Where the batch is wanted.

    Raises:
        ConfigurationError: If the matrices differ.
        ChpnetError: What `step_loader` found instead of samples.
    """
    if isinstance(samples[0], ChpnetError):
        raise samples[0]
    shapes = {tuple(s.target.shape) for s in samples}
    if len(shapes) > 1:
        raise ConfigurationError(
            f"expected slices of one matrix in a step, found {sorted(shapes)}; set data.batch to 1 "
            "or the same first and last value for simulation.matrix_y (and for matrix_x or strip)"
        )
    if isinstance(samples[0], SuperresSample):
        return _collate_superres(samples, device)
    coils = max(len(s.maps) for s in samples)
    maps = torch.stack(
        [functional.pad(s.maps, (0, 0, 0, 0, 0, coils - len(s.maps))) for s in samples]
    ).to(device)
    mask, adjoint, target = (
        torch.stack([getattr(s, name) for s in samples]).to(device)
        for name in ("mask", "adjoint", "target")
    )
    operator = ColumnSense(maps, mask)
    start = cg_sense(
        operator.normal_columns,
        adjoint.mT.contiguous(),
        regularization=START_REGULARIZATION,
        iterations=START_ITERATIONS,
        tolerance=0.0,
    ).mT
    noise = torch.tensor([s.noise for s in samples], device=device).reshape(-1, 1, 1, 1)
    return Batch(
        to_channels(start),
        to_channels(adjoint),
        to_channels(target),
        ColumnNormal(operator),
        noise,
    )


def _collate_superres(samples: Sequence[SuperresSample], device: torch.device | str) -> Batch:
    factors = {s.factor for s in samples}
    if len(factors) > 1:
        raise ConfigurationError(f"expected one factor in a step, found {sorted(factors)}")
    factor, measured = factors.pop(), samples[0].measured
    low = torch.stack([s.low for s in samples])[:, None].to(device)
    target = torch.stack([s.target for s in samples])[:, None].to(device)
    normal = SuperresNormal(factor, measured)
    noise = torch.tensor([factor * s.noise for s in samples], device=device).reshape(-1, 1, 1, 1)
    return Batch(superres_start(low, normal), normal.adjoint(low), target, normal, noise)
