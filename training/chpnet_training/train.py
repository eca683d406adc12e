"""Supervised training of a student on simulated scans, resumable at every checkpoint."""

from __future__ import annotations

import csv
import logging
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from chpnet_stream.errors import ChpnetError
from chpnet_stream.network.chpnet import Student, build_student
from chpnet_training.dataset import Batch, SimulatedSlices, collate, sample_loader
from chpnet_training.losses import magnitude, structural_similarity, supervised_loss
from chpnet_training.recipe import Recipe

CHECKPOINT = "last.ckpt"
SPIKE = 8.0
"""A gradient this many times longer than usual is left out."""
MOST_SPIKES = 20

logger = logging.getLogger(__name__)


class TrainingError(ChpnetError):
    """Training cannot go on."""


@dataclass
class Progress:
    """What a training run reports while it runs."""

    step: int
    steps: int
    loss: float
    psnr: float
    seconds_per_step: float


def learning_rate(step: int, recipe: Recipe) -> float:
    """Warm-up, then half a cosine down to 1 % of the peak."""
    o = recipe.optimizer
    if step < o.warmup:
        return o.learning_rate * (step + 1) / o.warmup
    share = (step - o.warmup) / max(1, o.steps - o.warmup)
    return o.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def psnr(x: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB of magnitude images `batch 1 y x`, peak = the target's maximum; `batch`."""
    error = (x - target).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(target.amax(dim=(1, 2, 3)).square() / error.clamp_min(1e-20))


def difficulty_weight(batch: Batch) -> Tensor:
    """Weight of a batch: easy scans count as much as hard ones, by what CG-SENSE left to do."""
    error = (batch.start - batch.target).abs().mean()
    return 0.05 / (0.02 + error)


def run_student(student: nn.Module, batch: Batch) -> Tensor:
    """The student's image `batch 2 y x`."""
    image: Tensor = student(batch.start, batch.adjoint, batch.normal, batch.noise)
    return image


@torch.no_grad()
def validate(student: nn.Module, batches: list[Batch]) -> dict[str, float]:
    """Mean PSNR and SSIM of the student and of its starting images."""
    rows: dict[str, list[float]] = {"psnr": [], "ssim": [], "start_psnr": [], "start_ssim": []}
    for batch in batches:
        truth = magnitude(batch.target)
        peak = truth.amax(dim=(1, 2, 3), keepdim=True)
        for prefix, image in (("", run_student(student, batch)), ("start_", batch.start)):
            found = magnitude(image)
            rows[f"{prefix}psnr"] += psnr(found, truth).tolist()
            rows[f"{prefix}ssim"].append(float(structural_similarity(found, truth, peak)))
    return {key: sum(values) / len(values) for key, values in rows.items()}


class Training:
    """One run: its networks, its place in the data, its files.

    Args:
        recipe: What to do.
        bank: File of training images.
        folder: Where checkpoints and logs go; a checkpoint found there is continued.
        workers: Processes that simulate data (0: in this process).
        initial: Checkpoint of another run whose averaged weights this one begins with.
    """

    def __init__(
        self,
        recipe: Recipe,
        bank: Path,
        folder: Path,
        *,
        workers: int = 1,
        initial: Path | None = None,
    ) -> None:
        self.recipe, self.folder, self.workers = recipe, folder, workers
        folder.mkdir(parents=True, exist_ok=True)
        self.fabric = Fabric(accelerator="auto", devices=1)
        torch.manual_seed(recipe.seed)
        student = build_student(recipe.student)
        if initial is not None:
            _begin_with(student, initial)
        student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average: Student = build_student(recipe.student)
        self.average.load_state_dict(student.state_dict())
        self.average.to(self.fabric.device)
        self.average.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(
            student.parameters(),
            lr=recipe.optimizer.learning_rate,
            weight_decay=recipe.optimizer.weight_decay,
        )
        self.student, self.optimizer = self.fabric.setup(student, optimizer)
        self.step = 0
        self.usual_gradient = 0.0
        self.spikes = 0
        self.data = SimulatedSlices(bank, "train", recipe.simulation, recipe.seed)
        held_back = SimulatedSlices(bank, "val", recipe.simulation, recipe.seed)
        self.validation = [collate(held_back[i]) for i in range(recipe.validation.slices)]
        if (folder / CHECKPOINT).exists():
            self._load(folder / CHECKPOINT)

    def run(
        self,
        report: Any = None,
        *,
        max_seconds: float = math.inf,
        stop: Callable[[], bool] | None = None,
    ) -> bool:
        """Train to the end or for `max_seconds`; returns whether the end was reached.

        Args:
            report: Called with a `Progress` after every step.
            max_seconds: Stop at a checkpoint after this time.
            stop: Asked after every step; True makes a checkpoint and stops there.

        Raises:
            TrainingError: If the loss or the gradient is not finite.
        """
        recipe = self.recipe
        begin, last_psnr = time.monotonic(), float("nan")
        loader = sample_loader(self.data, self.step, recipe.optimizer.steps, self.workers)
        for samples in loader:
            tick = time.monotonic()
            loss = self._train_step(collate(samples))
            self.step += 1
            finished = self.step == recipe.optimizer.steps
            late = time.monotonic() - begin > max_seconds or (stop is not None and stop())
            if self.step % recipe.validation.every == 0 or finished or late:
                scores = validate(self.average, self.validation)
                last_psnr = scores["psnr"]
                self._log({"step": self.step, "loss": loss, **scores})
                self._save(self.folder / CHECKPOINT)
            if report is not None:
                seconds = time.monotonic() - tick
                report(Progress(self.step, recipe.optimizer.steps, loss, last_psnr, seconds))
            if late and not finished:
                return False
        return True

    def _train_step(self, batch: Batch) -> float:
        recipe = self.recipe
        rate = learning_rate(self.step, recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        image = run_student(self.student, batch)
        terms = supervised_loss(
            image,
            batch.target,
            edge_weight=recipe.loss.edge,
            ssim_weight=recipe.loss.ssim,
        )
        loss = float(terms["loss"].detach())
        self.optimizer.zero_grad()
        self.fabric.backward(terms["loss"] * difficulty_weight(batch))
        norm = self.fabric.clip_gradients(
            self.student, self.optimizer, max_norm=recipe.optimizer.clip, error_if_nonfinite=False
        )
        size = math.nan if norm is None else float(norm)
        if not (math.isfinite(loss) and math.isfinite(size)):
            values = {key: float(value.detach()) for key, value in terms.items()}
            raise TrainingError(
                f"step {self.step}: expected a finite loss and gradient, found {values} and a "
                f"gradient norm of {size}; lower optimizer.learning_rate "
                f"(now {rate:.2g}) and continue from the last checkpoint"
            )
        if self._is_spike(size):
            return loss
        self.optimizer.step()
        decay = min(recipe.optimizer.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.student.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
        return loss

    def _is_spike(self, size: float) -> bool:
        """Whether a gradient is so much larger than usual that the step must be left out.

        Clipping keeps the length of such a step but not its direction, and one in thousands can
        throw the weights off.

        Raises:
            TrainingError: If they come one after the other: the weights are off already.
        """
        if self.usual_gradient > 0 and size > SPIKE * self.usual_gradient:
            self.spikes += 1
            logger.warning(
                "step %d left out: gradient norm %.3g, usually %.3g",
                self.step,
                size,
                self.usual_gradient,
            )
            if self.spikes >= MOST_SPIKES:
                raise TrainingError(
                    f"step {self.step}: {self.spikes} gradients in a row were more than {SPIKE:g} "
                    f"times the usual {self.usual_gradient:.3g}; lower optimizer.learning_rate and "
                    "continue from an older checkpoint"
                )
            return True
        self.spikes = 0
        self.usual_gradient += 0.02 * (size - self.usual_gradient) if self.step >= 50 else 0.0
        if self.step < 50:
            self.usual_gradient = max(self.usual_gradient, size)
        return False

    def _log(self, row: dict[str, float]) -> None:
        path = self.folder / "validation.csv"
        fresh = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)

    def _save(self, path: Path) -> None:
        state = {
            "recipe": self.recipe.model_dump(mode="json"),
            "step": self.step,
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "usual_gradient": self.usual_gradient,
            "spikes": self.spikes,
        }
        whole = path.with_suffix(".tmp")
        torch.save(state, whole)
        whole.replace(path)

    def _load(self, path: Path) -> None:
        state = _read_checkpoint(path)
        if state["recipe"] != self.recipe.model_dump(mode="json"):
            raise TrainingError(
                f"{path}: expected a checkpoint of this recipe, found one of another "
                f"('{state['recipe']['name']}' with other settings); choose another --out folder"
            )
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        self.usual_gradient = float(state["usual_gradient"])
        self.spikes = int(state["spikes"])
        self._forget_later_rows()

    def _forget_later_rows(self) -> None:
        """Drop rows of the log that were written after the checkpoint."""
        path = self.folder / "validation.csv"
        if not path.exists():
            return
        head, *rows = path.read_text(encoding="utf-8").splitlines()
        kept = [row for row in rows if int(row.split(",")[0]) <= self.step]
        path.write_text("\n".join([head, *kept, ""]), encoding="utf-8")


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(f"{path}: expected a checkpoint, found no such file") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{path}: expected a checkpoint, found a damaged file; remove it to start anew"
        ) from error
    return state


def _begin_with(student: Student, path: Path) -> None:
    state = _read_checkpoint(path)
    try:
        student.load_state_dict(state["average"])
    except (KeyError, RuntimeError) as error:
        raise TrainingError(
            f"{path}: expected weights of {student.config.architecture} with widths "
            f"{list(student.config.widths)}, found those of another student"
        ) from error
