"""`chpnet-train ablate`: does the teacher help, and what of it? Every arm with every seed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from chpnet_stream.cli.formatter import show_list
from chpnet_training.options import (
    Interrupts,
    data_option,
    leave_unfinished,
    max_time_option,
    study_options,
)

COLUMNS = ("condition", "arm", "seeds", "psnr_db", "spread_db", "ssim", "nmse", "gap_closed")


@click.command("ablate")
@click.argument("study", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="A.B=VALUE",
    help="Replace a setting of the study, such as seeds=[0,1] or recipe.optimizer.steps=100.",
)
@data_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the study; runs found there are continued, finished ones are kept.",
)
@click.option(
    "--teacher",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="CHECKPOINT",
    help="Take this trained teacher (last.ckpt of another study) instead of training one.",
)
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the report. [default: in --out]",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Runs at a time, each a process.",
)
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of each run."
)
@max_time_option
@study_options
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    study: Path,
    settings: tuple[str, ...],
    data: Path,
    out: Path,
    teacher: Path | None,
    report: Path | None,
    jobs: int,
    threads: int,
    deadline: float,
    accelerator: str,
    devices: int,
    precision: str,
    workers: int,
    as_json: bool,
) -> None:
    """Train the arms of the YAML file STUDY with all its seeds, and compare them.

    The arms differ in the section `distillation` only: data, masks, order, steps and the first
    weights are the same for the same seed. The same command again goes on where it was stopped. The
    report (Markdown, JSON, curves, pictures) is written from whatever is finished; after Ctrl-C
    (exit code 130), which stops all runs at checkpoints, it is not. A run that fails (not the
    teacher's) holds up no other one; the command ends with its error when the others are done.

    Scores are of slices that no validation has seen: of the split `test` where the data have one
    (`chpnet-train prepare --test`), else of the validation's subjects, drawn anew.

    A study whose seeds are trained on several machines: `chpnet-train merge`.
    """
    import torch

    from chpnet_training.ablation import (
        FailedRunsError,
        Hardware,
        adopt_teacher,
        has_adopted,
        train_all,
    )
    from chpnet_training.ablation_pictures import draw_images
    from chpnet_training.ablation_report import write_report
    from chpnet_training.ablation_scores import score_all
    from chpnet_training.devices import choose_accelerator
    from chpnet_training.machine import describe_machine
    from chpnet_training.study import load_study

    wanted = load_study(study, settings)
    here = torch.device(choose_accelerator(accelerator, precision))
    hardware = Hardware(accelerator, devices, precision, workers)
    out.mkdir(parents=True, exist_ok=True)
    if teacher is not None:
        adopt_teacher(teacher, out)
    finished, failure = False, None
    with _Status() as status:
        with Interrupts() as watch:
            try:
                finished = train_all(
                    wanted,
                    data,
                    out,
                    jobs=jobs,
                    threads=threads,
                    hardware=hardware,
                    deadline=deadline,
                    stop=watch.asked,
                    progress=status,
                )
            except FailedRunsError as error:
                failure = error
        if watch.asked() and not finished:
            leave_unfinished(ctx, interrupted=True)
        status("scoring", 0, 0)
        rows = score_all(wanted, data, out, here)
    place = report or out
    place.mkdir(parents=True, exist_ok=True)
    words = [study.name if study.is_absolute() else study.as_posix()]
    words += [word for setting in settings for word in ("--set", setting)]
    words += ["--teacher", "CHECKPOINT"] if has_adopted(out) else []
    words += ["--data", "DATA", "--out", "OUT", "--jobs", str(jobs), "--threads", str(threads)]
    made_by = shlex.join([*words, *hardware.words(unusual=True)])
    footer = (
        f"Made by `chpnet-train ablate {made_by}`, DATA by {_describe_data(data)}. "
        f"{describe_machine()}"
    )
    draw_images(wanted, data, out, place / f"{wanted.name}-images.png")
    write_report(wanted, rows, out, place, footer)
    show_table(wanted.name, rows, as_json=as_json)
    if failure is not None:
        raise failure
    if not finished:
        leave_unfinished(ctx)


def show_table(name: str, rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Print what the report of a study begins with."""
    from chpnet_training.ablation_report import summarise

    table: list[dict[str, Any]] = [
        {
            "condition": cell.condition,
            "arm": cell.arm,
            "seeds": cell.seeds,
            "psnr_db": cell.psnr,
            "spread_db": cell.psnr_spread,
            "ssim": cell.ssim,
            "nmse": cell.nmse,
            "gap_closed": cell.gap_closed,
        }
        for cell in summarise(rows)
    ]
    show_list(table, title=f"Study {name}", columns=COLUMNS, as_json=as_json)


def _describe_data(data: Path) -> str:
    """How a file of training data was made, and its checksum, in words."""
    from chpnet_training.bank import SourceBank

    bank = SourceBank.load(data)
    made = bank.manifest.get("settings", {})
    asked = {name: made[name] for name in ("seed", "validation", "test") if name in made}
    options = "".join(f" --{name} {value:g}" for name, value in asked.items())
    sources = ", ".join(bank.manifest["sources"])
    return f"`chpnet-train prepare{options}` of {sources} (checksum {bank.checksum})"


class _Status:
    """What runs now, on a terminal; elsewhere a line for every finished run."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._status = self._console.status("starting")
        self._done = -1

    def __enter__(self) -> _Status:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._console.is_terminal:
            self._status.stop()

    def __call__(self, text: str, done: int, total: int) -> None:
        """Show the runs that run, and how many are done."""
        if self._console.is_terminal:
            self._status.update(f"{done} of {total} runs done; {text}")
        elif done != self._done and total:
            click.echo(f"{done} of {total} runs done", err=True)
            self._done = done
