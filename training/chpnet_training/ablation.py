"""The ablation: every arm with every seed, in processes of their own, and their scores.

A study lives in one folder: `teacher/`, one folder for every run, `data/` with the slices that all
of them train on, `scores.csv` with every test slice of every network. What is there is not made
again, so an interrupted study goes on where it was.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chpnet_training.checkpoint import read_checkpoint
from chpnet_training.optimization import TrainingError
from chpnet_training.options import ALLOCATOR
from chpnet_training.recipe import Recipe
from chpnet_training.study import Study
from chpnet_training.trainer import CHECKPOINT

SCORES = "scores.csv"
DONE = "finished"
RECIPE = "recipe.yaml"
POLL = 0.5


@dataclass(frozen=True)
class Run:
    """One network that the study trains.

    Attributes:
        name: Its folder.
        arm: "teacher", "unet" or an arm of the study.
        seed: Its seed.
        recipe: What to do.
    """

    name: str
    arm: str
    seed: int
    recipe: Recipe

    def arguments(self, data: Path, folder: Path) -> list[str]:
        """Words of the command that trains it."""
        verb = {"teacher": "teacher", "unet": "student"}.get(self.arm, "distill")
        if verb == "distill" and self.recipe.distillation.weight == 0:
            verb = "student"
        words = [verb, str(folder / self.name / RECIPE), "--data", str(data)]
        words += ["--out", str(folder / self.name), "--cache", str(folder / "data")]
        words += ["--workers", "0", "--json"]
        if self.arm == "unet":
            words += ["--network", "unet"]
        if verb == "distill":
            words += ["--teacher", str(folder / "teacher" / CHECKPOINT)]
        return words


def runs_of(study: Study) -> Iterator[Run]:
    """All runs: the teacher first, then seed by seed, so that a study that is cut is balanced."""
    yield Run("teacher", "teacher", study.seeds[0], study.arm_recipe("teacher", study.seeds[0]))
    for seed in study.seeds:
        for arm in study.arms:
            yield Run(f"{arm}-seed{seed}", arm, seed, study.arm_recipe(arm, seed))
        if study.unet:
            yield Run(f"unet-seed{seed}", "unet", seed, study.arm_recipe("unet", seed))


def adopt_teacher(checkpoint: Path, folder: Path) -> None:
    """Take a teacher that was trained before, instead of training one for this study.

    Raises:
        TrainingError: If it is no checkpoint of a teacher, or the study has another one already.
    """
    place = folder / "teacher" / CHECKPOINT
    networks = read_checkpoint(checkpoint)["networks"]
    if "teacher" not in networks:
        raise TrainingError(
            f"{checkpoint}: expected a teacher's checkpoint, found {', '.join(networks)}"
        )
    if place.exists():
        if place.read_bytes() != checkpoint.read_bytes():
            raise TrainingError(
                f"{place}: expected {checkpoint}, found another teacher; choose another --out"
            )
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    for name in (CHECKPOINT, "validation.csv"):
        if (checkpoint.parent / name).exists():
            shutil.copyfile(checkpoint.parent / name, place.parent / name)
    (place.parent / DONE).touch()


def train_all(
    study: Study,
    data: Path,
    folder: Path,
    *,
    jobs: int = 1,
    threads: int = 1,
    deadline: float | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> bool:
    """Train what is not trained yet; returns whether everything is.

    Args:
        study: What to train.
        data: File of training images.
        folder: Of the study.
        jobs: Runs at a time.
        threads: Threads of each.
        deadline: `time.monotonic()` at which to stop at checkpoints; None: never.
        progress: Told the last line of a run, the runs finished and all runs.

    Raises:
        TrainingError: If a run fails; the others are stopped at checkpoints.
    """
    waiting = [run for run in runs_of(study) if not (folder / run.name / DONE).exists()]
    total = sum(1 for _ in runs_of(study))
    running: dict[Run, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            late = deadline is not None and time.monotonic() > deadline
            if late:
                waiting = []
                for process in running.values():
                    process.terminate()
            while waiting and len(running) < jobs and _may_start(waiting[0], running, folder):
                run = waiting.pop(0)
                running[run] = _start(run, data, folder, threads)
            time.sleep(POLL)
            for run, process in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[run]
                if code == 0:
                    (folder / run.name / DONE).touch()
                elif not late:
                    raise TrainingError(
                        f"{run.name}: expected the run to finish, found exit code {code}; see "
                        f"{folder / run.name / 'log.txt'}: {_last_line(folder, run)}"
                    )
            if progress is not None and running:
                left = len(waiting) + len(running)
                names = "; ".join(f"{run.name}: {_last_line(folder, run)}" for run in running)
                progress(names, total - left, total)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return all((folder / run.name / DONE).exists() for run in runs_of(study))


def _may_start(run: Run, running: dict[Run, Any], folder: Path) -> bool:
    """Whether what a run needs is there: the teacher and the slices that all share."""
    if run.arm == "teacher":
        return True
    cached = run.recipe.data.fixed == 0 or (folder / "data" / "train.pt").exists()
    taught = run.recipe.distillation.weight == 0 or run.arm == "unet"
    return cached and (taught or (folder / "teacher" / DONE).exists() or not running)


def _start(run: Run, data: Path, folder: Path, threads: int) -> subprocess.Popen[bytes]:
    place = folder / run.name
    place.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_dump(run.recipe.model_dump(mode="json"), sort_keys=False)
    (place / RECIPE).write_text(content, encoding="utf-8")
    words = [sys.executable, "-m", "chpnet_training", *run.arguments(data, folder)]
    words += ["--threads", str(threads)]
    with (place / "log.txt").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own command
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**ALLOCATOR, **os.environ},
        )


def _last_line(folder: Path, run: Run) -> str:
    path = folder / run.name / "log.txt"
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 400))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""


def score_all(study: Study, data: Path, folder: Path) -> list[dict[str, Any]]:
    """Score every finished network on every condition, slice by slice; keeps `scores.csv`.

    Returns:
        Rows of `scores.csv`: network, arm, seed, condition, slice, psnr, ssim, nmse.
    """
    path = folder / SCORES
    rows = read_scores(path)
    known = {(row["network"], row["condition"]) for row in rows}
    for condition in study.conditions:
        wanted = [
            item for item in _networks(study, folder) if (item[0], condition.name) not in known
        ]
        if not wanted:
            continue
        rows += _score_condition(study, condition.name, wanted, data, folder)
        part = path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        part.replace(path)
    return rows


def _networks(study: Study, folder: Path) -> Iterator[tuple[str, str, int, str]]:
    """Name, arm, seed and network of everything that can be scored."""
    yield "start", "start", 0, ""
    for run in runs_of(study):
        if not (folder / run.name / DONE).exists():
            continue
        kind = run.arm if run.arm in ("teacher", "unet") else "student"
        yield run.name, run.arm, run.seed, kind
        how = run.recipe.distillation
        if kind == "student" and how.weight > 0 and (how.parameters or how.structure):
            yield f"{run.name} teacher", f"teacher after {run.arm}", run.seed, "teacher"


def _score_condition(
    study: Study, name: str, wanted: list[tuple[str, str, int, str]], data: Path, folder: Path
) -> list[dict[str, Any]]:
    import torch

    from chpnet_training.runs import evaluated_network, validation_batches
    from chpnet_training.validation import score_images

    condition = next(c for c in study.conditions if c.name == name)
    batches = validation_batches(study.condition_recipe(condition), data)
    rows: list[dict[str, Any]] = []
    for label, arm, seed, kind in wanted:
        place = folder / label.removesuffix(" teacher") / CHECKPOINT
        network = evaluated_network(place, kind)[0] if kind else None
        number = 0
        for batch in batches:
            image = batch.start
            if network is not None:
                with torch.no_grad():
                    image = network(batch.start, batch.adjoint, batch.normal, batch.noise)
            scores = score_images(image, batch.target)
            for i in range(len(image)):
                row: dict[str, Any] = {"network": label, "arm": arm, "seed": seed}
                row |= {"condition": name, "slice": number}
                rows.append(row | {key: float(value[i]) for key, value in scores.items()})
                number += 1
    return rows


def read_scores(path: Path) -> list[dict[str, Any]]:
    """Rows of a `scores.csv`; none where there is no file."""
    if not path.exists():
        return []
    texts = ("network", "arm", "condition")
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: value if key in texts else float(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
