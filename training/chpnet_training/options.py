"""Options and the closing table that all training commands share."""

from __future__ import annotations

import functools
import math
import os
import re
import signal
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import click

from chpnet_stream.cli.formatter import show

if TYPE_CHECKING:
    from chpnet_training.runs import Materials
    from chpnet_training.trainer import Progress, Trainer

F = TypeVar("F", bound=Callable[..., Any])
EXIT_INTERRUPTED = 130
EXIT_UNFINISHED = 75
"""The time of --max-time is over, and something is left to do (EX_TEMPFAIL of sysexits.h)."""
CONTINUES = "not finished: the same command continues from here"
SMOOTHING = 0.95
"""Share of the shown loss that comes from the steps before."""


class Duration(click.ParamType):
    """A time such as 45m, 1h30m, 90s; seconds where no unit is given."""

    name = "TIME"
    _seconds = types.MappingProxyType({"h": 3600.0, "m": 60.0, "s": 1.0})

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds from text.

        Raises:
            click.BadParameter: If the text is no time.
        """
        text = str(value).strip().lower()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        if not re.fullmatch(r"(\d+(\.\d+)?[hms])+", text):
            self.fail(f"{value!r} is no time; expected one such as 45m, 1h30m or 90s", param, ctx)
        parts = re.findall(r"([\d.]+)([hms])", text)
        return sum(float(number) * self._seconds[unit] for number, unit in parts)


def recipe_options(command: F) -> F:
    """RECIPE and --set."""
    command = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="A.B=VALUE",
        help="Replace a setting of the recipe; can be given several times.",
    )(command)
    return click.argument("recipe", type=click.Path(dir_okay=False, path_type=Path))(command)


def data_option(command: F) -> F:
    """--data."""
    return click.option(
        "--data",
        type=click.Path(dir_okay=False, path_type=Path),
        required=True,
        help="Training images, from `chpnet-train prepare`.",
    )(command)


def max_time_option(command: F) -> F:
    """--max-time, as `deadline`: seconds of `time.monotonic`, infinite where it is not given."""
    return click.option(
        "--max-time",
        "deadline",
        type=Duration(),
        callback=_deadline,
        help="Stop at a checkpoint when this time is over, counted from the start of the command: "
        f"45m, 2h. Exit code {EXIT_UNFINISHED} says that the same command has more to do.",
    )(command)


def _deadline(ctx: click.Context, param: click.Parameter, seconds: float | None) -> float:
    return math.inf if seconds is None else time.monotonic() + seconds


_accelerator = click.option(
    "--accelerator",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to train.",
)
_devices = click.option(
    "--devices",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Devices of this machine (DDP); each trains on its share of data.batch. Under "
    "torchrun it is what that has started.",
)
_precision = click.option(
    "--precision",
    type=click.Choice(["32-true", "bf16-mixed", "16-mixed"]),
    default="32-true",
    show_default=True,
    help="Arithmetic of the networks; data consistency and losses are float32 always.",
)


def _workers(default: int) -> Callable[[F], F]:
    return click.option(
        "--workers",
        type=click.IntRange(0),
        default=default,
        show_default=True,
        help="Processes that simulate scans; 0 simulates between the steps.",
    )


def study_options(command: F) -> F:
    """Those of `device_options` that each run of a study is given."""
    options: tuple[Callable[[F], F], ...] = (_accelerator, _devices, _precision, _workers(0))
    for option in reversed(options):
        command = option(command)
    return command


def device_options(command: F) -> F:
    """Time, devices, precision, workers, output; and processes that end together."""
    options: tuple[Callable[[F], F], ...] = (
        max_time_option,
        _accelerator,
        _devices,
        click.option(
            "--nodes",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="Machines; start the same command on each with torchrun.",
        ),
        click.option(
            "--collective-timeout",
            type=Duration(),
            default="10m",
            show_default=True,
            help="How long a process waits for the others before it ends with an error.",
        ),
        _precision,
        _workers(1),
        click.option(
            "--threads", type=click.IntRange(1), help="Threads of the network. [default: all]"
        ),
        click.option(
            "--cache",
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder of slices that are simulated once (data.fixed). [default: in --out]",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON."),
    )
    together = _ending_together(command)
    for option in reversed(options):
        together = option(together)
    return together


def _ending_together(command: F) -> F:
    @functools.wraps(command)
    def run(*words: Any, **values: Any) -> Any:
        from chpnet_training.processes import ending_together

        with ending_together():
            return command(*words, **values)

    return cast(F, run)


def out_option(command: F) -> F:
    """--out."""
    return click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        required=True,
        help="Folder of the run; a checkpoint found there is continued.",
    )(command)


def make_materials(
    data: Path, out: Path, how: dict[str, Any], *, unused: bool = False
) -> Materials:
    """Devices and folders from the values of `device_options`; starts the other processes.

    Args:
        data: File of training images.
        out: Folder of the run.
        how: Values of `device_options`.
        unused: See `chpnet_training.devices.make_fabric`.
    """
    import torch

    from chpnet_training.devices import make_fabric
    from chpnet_training.processes import launch
    from chpnet_training.runs import Materials

    fabric = make_fabric(
        accelerator=how["accelerator"],
        devices=how["devices"],
        nodes=how["nodes"],
        precision=how["precision"],
        unused=unused,
        patience=how["collective_timeout"],
    )
    launch(fabric)
    if how["threads"] is not None:  # after the launch, which sets it to this process's share
        torch.set_num_threads(how["threads"])
    return Materials(fabric, data, out, cache=how["cache"], workers=how["workers"])


def run_and_report(
    ctx: click.Context,
    trainer: Trainer,
    what: str,
    how: dict[str, Any],
) -> bool:
    """Train with a progress bar, print the closing table; returns whether the end was reached.

    Exits with 130 where it was interrupted, with 75 where the time was over (`leave_unfinished`).
    """
    recipe = trainer.recipe
    first = trainer.step
    out = trainer.folder
    zero = trainer.fabric.is_global_zero
    if first and zero:
        goes_on = "is finished" if trainer.has_ended() else "is continued"
        click.echo(f"{out} {goes_on} after step {first}", err=True)
    watch = Interrupts()
    left = how["deadline"] - time.monotonic()
    with watch, Reporter(what, first, recipe.optimizer.steps, shown=zero) as report:
        finished = trainer.run(report, max_seconds=left, stop=watch.asked)
    if zero:
        _closing(trainer, what, finished, report, how["as_json"])
        if not finished:
            leave_unfinished(ctx, interrupted=watch.asked())
    return finished


def leave_unfinished(ctx: click.Context, *, interrupted: bool = False) -> NoReturn:
    """Say that the same command goes on, and exit.

    Under torchrun, which stops all processes for any code but 0, it is 0 unless interrupted.
    """
    from torch import distributed

    click.echo(CONTINUES, err=True)
    under_torchrun = distributed.is_available() and distributed.is_torchelastic_launched()
    ctx.exit(EXIT_INTERRUPTED if interrupted else 0 if under_torchrun else EXIT_UNFINISHED)


def _closing(trainer: Trainer, what: str, finished: bool, report: Reporter, as_json: bool) -> None:
    from chpnet_training.trainer import CHECKPOINT

    evaluated = trainer.learner.evaluated
    rows = {
        "recipe": trainer.recipe.name,
        "network": what,
        "step": trainer.step,
        "steps": trainer.recipe.optimizer.steps,
        "finished": finished,
        "loss": report.loss,
        "validation_psnr_db": trainer.scores.get("psnr", math.nan),
        "validation_ssim": trainer.scores.get("ssim", math.nan),
        "start_psnr_db": trainer.scores.get("start_psnr", math.nan),
        "parameters": sum(p.numel() for p in evaluated.parameters()),
        "checkpoint": str(trainer.folder / CHECKPOINT),
    }
    show(rows, title="Training", as_json=as_json)


class Interrupts:
    """Remembers the first SIGINT or SIGTERM; the second SIGINT interrupts as usual.

    Worker processes inherit the handler, so that Ctrl-C does not take them away from the step that
    is being finished.
    """

    def __init__(self) -> None:
        self._count = 0
        self._before: dict[int, Any] = {}

    def asked(self) -> bool:
        """Whether the run was asked to stop."""
        return self._count > 0

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        self._count += 1
        if self._count > 1 and number == signal.SIGINT:
            raise KeyboardInterrupt


class Reporter:
    """A progress bar on a terminal; elsewhere a line for every validation.

    Args:
        what: Name of what is trained.
        first: Steps done already.
        steps: Steps of the whole run.
        shown: False on all processes but the first.
    """

    def __init__(self, what: str, first: int, steps: int, *, shown: bool = True) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        self.loss = math.nan
        self.psnr = math.nan
        self._plain = shown and not console.is_terminal
        self._bar = Bar(
            TextColumn(f"training the {what}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[scores]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not shown or not console.is_terminal,
            speed_estimate_period=300,
        )
        self._task = self._bar.add_task("steps", total=steps, completed=first, scores="")

    def __enter__(self) -> Reporter:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Take the report of one step."""
        old = self.loss if math.isfinite(self.loss) else progress.loss
        self.loss = SMOOTHING * old + (1 - SMOOTHING) * progress.loss
        scores = f"loss {self.loss:.4f}"
        validated = math.isfinite(progress.psnr)
        if validated:
            scores += f"  PSNR {progress.psnr:.2f} dB"
        self._bar.update(self._task, completed=progress.step, scores=scores)
        if self._plain and validated and progress.psnr != self.psnr:
            click.echo(f"step {progress.step}/{progress.steps}  {scores}", err=True)
        self.psnr = progress.psnr


def allocator_missing() -> dict[str, str]:
    """Settings of glibc's allocator for training that this process was not started with."""
    return {name: value for name, value in ALLOCATOR.items() if name not in os.environ}


ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_TOP_PAD_": str(64 * 2**20),
    "GOMP_SPINCOUNT": "1000",
}
"""Environment of a training process on Linux: freed memory is kept for the next step.

By default glibc hands the big temporary tensors of every step back to the kernel, and page faults
take half of the time. It reads these names once, when the process starts.
"""
