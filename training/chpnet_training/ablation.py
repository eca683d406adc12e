"""The ablation: every arm with every seed, in processes of their own, and their scores.

A study lives in one folder: `teacher/`, one folder for every run, `data/` with the slices that all
of them train on, `scores.csv` (`ablation_scores`) with every test slice of every network. What is
there is not made again, so an interrupted study goes on where it was.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from chpnet_stream.whole_file import whole_file, write_whole
from chpnet_training.bank import SourceBank
from chpnet_training.checkpoint import (
    check_given,
    check_precision,
    given_to,
    read_checkpoint,
    warn_of_unfinished,
    weights_identity,
)
from chpnet_training.optimization import TrainingError
from chpnet_training.options import ALLOCATOR
from chpnet_training.recipe import Recipe, differences
from chpnet_training.runlog import VALIDATION
from chpnet_training.runs import warn_of_other_data
from chpnet_training.study import Study
from chpnet_training.trainer import CHECKPOINT

logger = logging.getLogger(__name__)

DONE = "finished"
"""File in the folder of a run that reached its end."""
ADOPTED = "adopted"
"""What it says in the folder of a teacher that was trained elsewhere."""
RECIPE = "recipe.yaml"
LOG = "log.txt"
COMMON = ("seed", "data", "simulation", "superres", "loss", "optimizer", "validation")
"""Sections of the recipe that every run depends on."""
OWN = {
    "teacher": ("teacher", "student.task"),
    "unet": ("unet", "student.task"),
    "student": ("student",),
    "distill": ("student", "teacher", "distillation"),
}
"""Sections that it depends on besides, by arm or command."""
POLL = 0.5
"""Seconds between two looks at the runs."""


class FailedRunsError(TrainingError):
    """Runs of a study have failed; all others are trained as far as they could be."""


@dataclass(frozen=True)
class Hardware:
    """Where and how the runs of a study are trained: options of the commands that train them.

    Attributes:
        accelerator: "auto", "cpu" or "cuda".
        devices: Devices of each run.
        precision: Arithmetic of the networks; a study has one.
        workers: Processes of each run that simulate.
    """

    accelerator: str = "auto"
    devices: int = 1
    precision: str = "32-true"
    workers: int = 0

    def words(self, *, unusual: bool = False) -> list[str]:
        """The options; with `unusual` those that are not the defaults."""
        return [
            word
            for name, value in asdict(self).items()
            if not unusual or value != getattr(USUAL, name)
            for word in (f"--{name}", str(value))
        ]


USUAL = Hardware()


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

    @property
    def network(self) -> str:
        """What it trains, by its name in the checkpoint."""
        return self.arm if self.arm in ("teacher", "unet") else "student"

    @property
    def verb(self) -> str:
        """The command that trains it."""
        if self.arm == "teacher":
            return "teacher"
        alone = self.arm == "unet" or self.recipe.distillation.weight == 0
        return "student" if alone else "distill"

    @property
    def given(self) -> tuple[str, ...]:
        """Options by which it is known again, beside its recipe."""
        return ("data", "teacher") if self.verb == "distill" else ("data",)

    def arguments(self, data: Path, folder: Path) -> list[str]:
        """Words of the command that trains it."""
        words = [self.verb, str(folder / self.name / RECIPE), "--data", str(data)]
        words += ["--out", str(folder / self.name), "--cache", str(folder / "data")]
        words += ["--json"]
        if self.arm == "unet":
            words += ["--network", "unet"]
        if self.verb == "distill":
            words += ["--teacher", str(folder / "teacher" / CHECKPOINT)]
        return words

    def foreign(self, folder: Path) -> list[str]:
        """Settings that count for this run and are others in the finished run of its folder."""
        own = OWN[self.arm if self.arm in OWN else self.verb]
        place = folder / self.name
        wanted = self.recipe.for_teacher() if self.verb == "teacher" else self.recipe
        found = differences(read_checkpoint(place / CHECKPOINT)["recipe"], wanted)
        counted = own if self.is_adopted(folder) else (*COMMON, *own)
        return [said for said in found if said.startswith(counted) or " there and " not in said]

    def is_done(self, folder: Path) -> bool:
        """Whether it has reached its end."""
        return (folder / self.name / DONE).exists()

    def is_adopted(self, folder: Path) -> bool:
        """Whether what is finished in its folder was trained elsewhere."""
        return (folder / self.name / DONE).read_text(encoding="utf-8") == ADOPTED


def runs_of(study: Study) -> Iterator[Run]:
    """All runs: the teacher first, then seed by seed, so that a study that is cut is balanced."""
    yield Run("teacher", "teacher", study.seeds[0], study.arm_recipe("teacher", study.seeds[0]))
    for seed in study.seeds:
        for arm in study.arms:
            yield Run(f"{arm}-seed{seed}", arm, seed, study.arm_recipe(arm, seed))
        if study.unet:
            yield Run(f"unet-seed{seed}", "unet", seed, study.arm_recipe("unet", seed))


def has_adopted(folder: Path) -> bool:
    """Whether the teacher of a study was trained elsewhere."""
    mark = folder / "teacher" / DONE
    return mark.exists() and mark.read_text(encoding="utf-8") == ADOPTED


def adopt_teacher(checkpoint: Path, folder: Path) -> None:
    """Take a teacher that was trained before, instead of training one for this study.

    Raises:
        TrainingError: If it is no checkpoint of a teacher, or the study has another one already.
        OutputError: If it can't be copied.
    """
    place = folder / "teacher" / CHECKPOINT
    state = read_checkpoint(checkpoint)
    if "teacher" not in state["networks"]:
        raise TrainingError(
            f"{checkpoint}: expected a teacher's checkpoint, found {', '.join(state['networks'])}"
        )
    warn_of_unfinished(checkpoint, state)
    if place.exists():
        if place.read_bytes() != checkpoint.read_bytes():
            raise TrainingError(
                f"{place}: expected {checkpoint}, found another teacher; choose another --out"
            )
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        if (checkpoint.parent / VALIDATION).exists():
            shutil.copyfile(checkpoint.parent / VALIDATION, place.parent / VALIDATION)
        with whole_file(place) as part:  # half of it would be taken for another teacher
            shutil.copyfile(checkpoint, part)
    if not (place.parent / DONE).exists():
        write_whole(place.parent / DONE, ADOPTED)  # half of the word would be another


def train_all(
    study: Study,
    data: Path,
    folder: Path,
    *,
    jobs: int = 1,
    threads: int = 1,
    hardware: Hardware = USUAL,
    deadline: float | None = None,
    stop: Callable[[], bool] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> bool:
    """Train what is not trained yet; returns whether everything is.

    A run that another process is training (the child of an ablation that was killed) is left to it
    and continued once that has ended. A run that fails holds up no other one, unless it is the
    teacher's.

    Args:
        study: What to train.
        data: File of training images.
        folder: Of the study.
        jobs: Runs at a time.
        threads: Threads of each.
        hardware: Where and how they are trained.
        deadline: `time.monotonic()` at which to stop at checkpoints; None: never.
        stop: Asked again and again; True stops at checkpoints.
        progress: Told the last line of a run, the runs finished and all runs.

    Raises:
        FailedRunsError: If runs have failed, when the others are done; until then a warning tells.
        TrainingError: If the teacher's run fails. If a finished run is one of another recipe, data,
            teacher or precision.
    """
    runs = list(runs_of(study))
    finished = [run for run in runs if run.is_done(folder)]
    _refuse_others(finished, data, folder, hardware.precision)
    options = [*hardware.words(), "--threads", str(threads)]
    running: dict[Run, subprocess.Popen[bytes]] = {}
    failed: dict[str, str] = {}
    late = False
    try:
        while running or not late:
            undone = [run for run in runs if not run.is_done(folder) and run.name not in failed]
            waiting = [run for run in undone if run not in running]
            if not waiting and not running:
                break
            if not late and _is_late(deadline, stop):
                late = True
                for process in running.values():
                    process.terminate()
            if not late:
                _start_some(waiting, running, data, folder, jobs, options)
            time.sleep(POLL)
            ended = _collect(running, folder)
            # a terminal interrupts the runs as well, and they may have heard it first
            if ended and not (late or _is_late(deadline, stop)):
                for run, code in ended:
                    failed[run.name] = (
                        f"{run.name}: expected the run to finish, found exit code {code}; see "
                        f"{folder / run.name / LOG}: {_last_line(folder, run)}"
                    )
                    if run.verb == "teacher":
                        raise TrainingError(failed[run.name])
                    logger.warning("%s", failed[run.name])
            if progress is not None and running:
                names = "; ".join(f"{run.name}: {_last_line(folder, run)}" for run in running)
                done = sum(run.is_done(folder) for run in runs)
                progress(names, done, len(runs))
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    undone = [run for run in runs if not run.is_done(folder)]
    if failed and all(run.name in failed for run in undone):
        first, *more = failed
        others = f" (so have {', '.join(more)})" if more else ""
        raise FailedRunsError(f"{failed[first]}{others}")
    return not undone


def _refuse_others(finished: Sequence[Run], data: Path, folder: Path, precision: str) -> None:
    """Refuse finished runs of another recipe, other data, another teacher or precision.

    Raises:
        TrainingError: With what they are of.
    """
    given = {"data": SourceBank.load(data).identity}
    silent = []
    for run in finished:
        other = run.foreign(folder)
        if other:
            raise TrainingError(
                f"{folder / run.name}: expected a run of this study, found one of another recipe "
                f"({'; '.join(other[:3])}); choose another --out folder"
            )
        path = folder / run.name / CHECKPOINT
        state = read_checkpoint(path)
        if run.is_adopted(folder):
            warn_of_other_data(path, given_to(state), given["data"])
        else:
            wanted = {key: given[key] for key in run.given if key in given}
            check_given(path, state, wanted, quiet=True)
            # before studies could choose, they were trained in the usual one
            check_precision(path, {"arithmetic": USUAL.precision, **state}, precision)
            silent += [] if given_to(state) else [run.name]
        if run.verb == "teacher":
            given["teacher"] = weights_identity(path, state["networks"]["teacher"])
    if silent:
        logger.warning(
            "%s: the checkpoints of %s don't say which data they were trained with, as they are of "
            "an older version; taken for %s",
            folder,
            ", ".join(silent),
            given["data"],
        )


def _is_late(deadline: float | None, stop: Callable[[], bool] | None) -> bool:
    return (deadline is not None and time.monotonic() > deadline) or (stop is not None and stop())


def _start_some(
    waiting: list[Run],
    running: dict[Run, subprocess.Popen[bytes]],
    data: Path,
    folder: Path,
    jobs: int,
    options: Sequence[str],
) -> None:
    """Start runs, the first ones first, until there are as many as wanted."""
    for run in waiting:
        if len(running) >= jobs:
            return
        # of the slices that all share, the first run makes the file
        cached = run.recipe.data.fixed == 0 or (folder / "data" / "train.pt").exists()
        taught = run.verb != "distill" or (folder / "teacher" / DONE).exists()
        if taught and (cached or not running):
            process = _start(run, data, folder, options)
            if process is not None:
                running[run] = process


def _collect(running: dict[Run, subprocess.Popen[bytes]], folder: Path) -> list[tuple[Run, int]]:
    """Take away the runs that have ended, and mark those that have reached their end.

    Returns:
        The others, with their exit codes.
    """
    failed = []
    for run, process in list(running.items()):
        code = process.poll()
        if code is None:
            continue
        del running[run]
        if code == 0:
            (folder / run.name / DONE).touch()
        else:
            failed.append((run, code))
    return failed


def _start(
    run: Run, data: Path, folder: Path, options: Sequence[str]
) -> subprocess.Popen[bytes] | None:
    """Start the process of a run; None where another process is at it.

    The log file is locked. The lock goes on to the new process with its output, and ends with it,
    even where this one was killed before.
    """
    import fcntl

    place = folder / run.name
    place.mkdir(parents=True, exist_ok=True)
    with (place / LOG).open("ab") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        content = yaml.safe_dump(run.recipe.model_dump(mode="json"), sort_keys=False)
        write_whole(place / RECIPE, content)
        words = [sys.executable, "-m", "chpnet_training", *run.arguments(data, folder)]
        return subprocess.Popen(  # noqa: S603 - our own command
            [*words, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**ALLOCATOR, **os.environ},
        )


def _last_line(folder: Path, run: Run) -> str:
    path = folder / run.name / LOG
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 400))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""
