"""The loop around a learner: data, devices, checkpoints, validation, logs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from chpnet_training.agreement import agree
from chpnet_training.checkpoint import (
    BEST,
    CHECKPOINT,
    CheckpointError,
    check_given,
    check_precision,
    read_checkpoint,
    write_checkpoint,
)
from chpnet_training.dataset import Batch, collate, step_loader
from chpnet_training.identity import SHOWN, Identity
from chpnet_training.machine import NOT_RECORDED, describe_device
from chpnet_training.processes import explained, note_step
from chpnet_training.recipe import Recipe, differences
from chpnet_training.runlog import RunLog
from chpnet_training.validation import validate

if TYPE_CHECKING:
    from lightning.fabric import Fabric

logger = logging.getLogger(__name__)


class Learner(Protocol):
    """What is trained, and how one step goes (`Supervised`, `Distillation`)."""

    evaluated: nn.Module

    def step(self, batch: Batch, number: int) -> dict[str, float]:
        """Learn from a batch."""

    def networks(self) -> dict[str, nn.Module]:
        """Averaged networks by name."""

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""


def arithmetic_of(fabric: Fabric) -> str:
    """The value of --precision."""
    return str(fabric.strategy.precision.precision)


def begun_run(
    folder: Path,
    recipe: Recipe,
    given: Mapping[str, Identity],
    fabric: Fabric,
    networks: Iterable[str],
) -> dict[str, Any] | None:
    """The checkpoint of a run that is to be continued; None where there is none.

    Asked before anything is simulated or trained.

    Args:
        folder: Of the run.
        recipe: What it is to do.
        given: What it is to be continued with beside the recipe, by option.
        fabric: Where it is to be continued.
        networks: Names of the networks that it trains.

    Raises:
        CheckpointError: If it is a run of another recipe, kind, data, teacher, beginning or
            precision.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    state = read_checkpoint(path)
    other = differences(state["recipe"], recipe)
    if other:
        raise CheckpointError(
            f"{path}: expected a checkpoint of this recipe, found one of another "
            f"({'; '.join(other[:3])}); choose another --out folder"
        )
    wanted, found = (" and ".join(sorted(names)) for names in (networks, state["networks"]))
    if wanted != found:
        raise CheckpointError(
            f"{path}: expected a run that trains the {wanted}, found one that trains the {found}; "
            "choose another --out folder"
        )
    check_given(path, state, given, quiet=not fabric.is_global_zero)
    check_precision(path, state, arithmetic_of(fabric))
    if state["learner"] is None:
        raise CheckpointError(
            f"{path}: expected the state of a training run, found only networks, as in {BEST}; "
            "begin a new run with it by --initial"
        )
    return state


@dataclass
class Progress:
    """What a training run reports while it runs."""

    step: int
    steps: int
    loss: float
    psnr: float
    seconds_per_step: float


class Trainer:
    """One run: its learner, its place in the data, its files.

    Attributes:
        step: Steps made.
        best: Best validation PSNR so far, in dB.
        about: What the cards of its models tell, plain values; kept in its checkpoints.
        hardware: What it was trained on, in order; kept in its checkpoints.

    Args:
        fabric: Where to train; launched already.
        recipe: What to do.
        learner: What is trained.
        slices: Training slices.
        held_back: Validation batches.
        folder: Where checkpoints and logs go.
        given: What the run is made with beside the recipe, by option: data, teacher.
        begun: The checkpoint to continue, as `begun_run` found it.
        workers: Processes that simulate data (0: in this process).
    """

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        learner: Learner,
        slices: Dataset[list[Any]],
        held_back: list[Batch],
        folder: Path,
        *,
        given: Mapping[str, Identity],
        begun: dict[str, Any] | None = None,
        workers: int = 0,
    ) -> None:
        self.fabric, self.recipe, self.learner = fabric, recipe, learner
        self.slices, self.held_back = slices, held_back
        self.folder, self.given, self.workers = folder, given, workers
        self.step = 0
        self.best = -math.inf
        self.since_best = 0
        self.scores: dict[str, float] = {}
        self.about: dict[str, Any] = {}
        self.hardware: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        if begun is not None:
            self._load(begun)
        self._begin_together()
        self.log = RunLog(folder, self.step, enabled=fabric.is_global_zero)
        if begun is not None:
            self.log.load_state_dict(begun["log"])

    @explained()
    def run(
        self,
        report: Callable[[Progress], None] | None = None,
        *,
        max_seconds: float = math.inf,
        stop: Callable[[], bool] | None = None,
    ) -> bool:
        """Train to the end, or for a time; returns whether the end was reached.

        Args:
            report: Called with a `Progress` after every step.
            max_seconds: Stop at a checkpoint after this time.
            stop: Asked after every step; True makes a checkpoint and stops there.

        Raises:
            TrainingError: If the loss or the gradient is not finite, or another process is gone.
        """
        recipe, fabric = self.recipe, self.fabric
        steps, begin = recipe.optimizer.steps, time.monotonic()
        if self.has_ended():
            return True
        self._note_hardware()
        loader = step_loader(
            self.slices,
            self.step,
            steps,
            batch=recipe.data.batch,
            workers=self.workers,
            rank=fabric.global_rank,
            world=fabric.world_size,
        )
        tick = time.monotonic()
        for samples in loader:
            note_step(self.step)
            torch.manual_seed(1_000_003 * recipe.seed + self.step)  # gates, everywhere alike
            told = self.learner.step(collate(samples, fabric.device), self.step)
            self.step += 1
            late = time.monotonic() - begin > max_seconds or (stop is not None and stop())
            told, late = self._agree(told, late)
            self.log.add(told)
            if self.step % recipe.validation.every == 0 or self.step == steps:
                self._validate()
            elif late:
                self._save()
            if report is not None:
                now = time.monotonic()
                psnr = self.scores.get("psnr", math.nan)
                report(Progress(self.step, steps, told["loss"], psnr, now - tick))
                tick = now
            if self.has_ended():
                break
            if late:
                return False
        if self.step < steps:
            logger.warning(
                "stopped early at step %d: no better PSNR than %.2f dB in %d validations",
                self.step,
                self.best,
                self.since_best,
            )
        return True

    def has_ended(self) -> bool:
        """Whether all steps are made, or enough validations in a row brought nothing better."""
        patience = self.recipe.validation.patience
        return self.step >= self.recipe.optimizer.steps or 0 < patience <= self.since_best

    def _note_hardware(self) -> None:
        """A run may go on elsewhere than where it was begun."""
        world = self.fabric.world_size
        here = ("" if world == 1 else f"{world} x ") + describe_device(self.fabric.device)
        if self.hardware[-1:] != [here]:
            self.hardware.append(here)

    def _agree(self, told: dict[str, float], late: bool) -> tuple[dict[str, float], bool]:
        """Means over all devices, and whether one of them wants to stop."""
        *means, share = agree(self.fabric, [*told.values(), float(late)])
        return dict(zip(told, means, strict=True)), share > 0

    def _begin_together(self) -> None:
        """Make sure that all processes found the same data and the same checkpoint, or none.

        Raises:
            CheckpointError: If they would begin at different steps, or with different data.
        """
        checksums = self._of_all(int(self.given["data"].checksum[:SHOWN], 16))
        if len(set(checksums)) > 1:
            found = ", ".join(f"{checksum:0{SHOWN}x}" for checksum in checksums[:8])
            raise CheckpointError(
                f"--data {self.given['data'].name}: expected the same file in all "
                f"{len(checksums)} processes, found checksums {found}; copy one of them to all "
                "machines"
            )
        steps = self._of_all(self.step)
        if len(set(steps)) > 1:
            raise CheckpointError(
                f"{self.folder / CHECKPOINT}: expected the same checkpoint in all {len(steps)} "
                f"processes, found them at steps {', '.join(map(str, steps[:8]))}; give an --out "
                "folder that all machines share"
            )

    def _of_all(self, number: int) -> list[int]:
        """The numbers of all processes, each below 2**48."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        own = [float(number) if other == rank else 0.0 for other in range(world)]
        return [round(world * share) for share in agree(self.fabric, own)]

    def _sum(self, values: Tensor) -> Tensor:
        summed = self.fabric.all_reduce(values.to(self.fabric.device), reduce_op="sum")
        return torch.as_tensor(summed)

    def _validate(self) -> None:
        """Score, log, write the checkpoints; each device scores its share."""
        rank, world = self.fabric.global_rank, self.fabric.world_size
        self.scores = validate(self.learner.evaluated, self.held_back[rank::world], self._sum)
        better = self.scores["psnr"] > self.best
        self.since_best = 0 if better else self.since_best + 1
        self.log.write(self.step, self.scores)
        if better:
            self.best = self.scores["psnr"]
        self._save(better)

    def _save(self, better: bool = False) -> None:
        """The best first: interrupted in between, the step that made it is made again."""
        if self.fabric.is_global_zero:
            state = self._state()
            if better:
                write_checkpoint(self.folder / BEST, {**state, "learner": None})
            write_checkpoint(self.folder / CHECKPOINT, state)
        self.fabric.barrier()

    def _state(self) -> dict[str, Any]:
        networks = self.learner.networks()
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "given": {option: asdict(identity) for option, identity in self.given.items()},
            "about": self.about,
            "arithmetic": arithmetic_of(self.fabric),
            "hardware": self.hardware,
            "step": self.step,
            "best": self.best,
            "since_best": self.since_best,
            "scores": self.scores,
            "networks": {name: network.state_dict() for name, network in networks.items()},
            "learner": self.learner.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "log": self.log.state_dict(),
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        if state.get("precision"):
            self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.step, self.best = int(state["step"]), float(state["best"])
        self.since_best, self.scores = int(state["since_best"]), state["scores"]
        self.about = state.get("about", {})
        self.hardware = list(state.get("hardware", (NOT_RECORDED,)))
