"""`chpnet-train student`: trains a student, and goes on where it was stopped."""

from __future__ import annotations

import math
import re
import signal
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chpnet_stream.cli.formatter import show

if TYPE_CHECKING:
    from chpnet_training.train import Progress

EXIT_INTERRUPTED = 130
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


@click.command("student")
@click.argument("recipe", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--bank",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Training images, from `chpnet-train bank`.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the run; a checkpoint found there is continued.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="A.B=VALUE",
    help="Replace a setting of the recipe; can be given several times.",
)
@click.option(
    "--initial",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="CHECKPOINT",
    help="Begin with the averaged weights of another run.",
)
@click.option("--max-time", type=Duration(), help="Stop at a checkpoint after this time: 45m, 2h.")
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Processes that simulate scans; 0 simulates between the steps.",
)
@click.option("--threads", type=click.IntRange(1), help="Threads of the network. [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    recipe: Path,
    bank: Path,
    out: Path,
    settings: tuple[str, ...],
    initial: Path | None,
    max_time: float | None,
    workers: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Train the student of the YAML file RECIPE on scans simulated from the images of a bank.

    The same command again continues from the last checkpoint in --out. Ctrl-C makes a checkpoint
    after the step it comes in (exit code 130); a second Ctrl-C does not wait. On Linux the process
    restarts itself once, with settings of the memory allocator that make it twice as fast
    (environment variables MALLOC_*, where they are not set already).
    """
    import torch

    from chpnet_training.recipe import load_recipe
    from chpnet_training.train import CHECKPOINT, Training

    wanted = load_recipe(recipe, settings)
    if threads is not None:
        torch.set_num_threads(threads)
    training = Training(wanted, bank, out, workers=workers, initial=initial)
    first = training.step
    if first:
        click.echo(f"continuing {out / CHECKPOINT} after step {first}", err=True)
    watch = _Interrupts()
    with watch, _Reporter(first, wanted.optimizer.steps) as report:
        finished = training.run(
            report, max_seconds=math.inf if max_time is None else max_time, stop=watch.asked
        )
    rows = {
        "recipe": wanted.name,
        "step": training.step,
        "steps": wanted.optimizer.steps,
        "finished": finished,
        "loss": report.loss,
        "validation_psnr_db": report.psnr,
        "parameters": sum(p.numel() for p in training.student.parameters()),
        "checkpoint": str(out / CHECKPOINT),
    }
    show(rows, title="Training", as_json=as_json)
    if not finished:
        click.echo("not finished: the same command continues from here", err=True)
        if watch.asked():
            ctx.exit(EXIT_INTERRUPTED)


class _Interrupts:
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

    def __enter__(self) -> _Interrupts:
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


class _Reporter:
    """A progress bar on a terminal; elsewhere a line for every validation."""

    def __init__(self, first: int, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        self.loss = math.nan
        self.psnr = math.nan
        self._plain = not console.is_terminal
        self._bar = Bar(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[scores]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=self._plain,
            speed_estimate_period=300,
        )
        self._task = self._bar.add_task("steps", total=steps, completed=first, scores="")

    def __enter__(self) -> _Reporter:
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
