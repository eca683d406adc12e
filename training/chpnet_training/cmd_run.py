"""`chpnet-train run`: everything a recipe needs, in order."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chpnet_stream.cli import cmd_simulate
from chpnet_stream.cli.formatter import show
from chpnet_stream.errors import ConfigurationError
from chpnet_training.beginning import note_origin
from chpnet_training.options import (
    device_options,
    leave_unfinished,
    make_materials,
    recipe_options,
    run_and_report,
)

if TYPE_CHECKING:
    from chpnet_training.recipe import Recipe

STEPS = 5
PICTURE = Path("evaluation") / "comparison.png"
SCORES = "evaluation.json"
SCAN: dict[str, Any] = {
    "matrix": (160, 160),
    "slices": 2,
    "coils": 8,
    "acceleration": 1,
    "snr": 12.0,
    "seed": 4711,
}
"""The scan that the student is scored on; the heads to train on have small seeds."""


@click.command("run")
@recipe_options
@click.option(
    "--data",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Training images, from `chpnet-train prepare`. [default: simulated heads]",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for everything that is made; what is finished there is kept.",
)
@click.option(
    "--phantoms",
    type=click.IntRange(2),
    default=12,
    show_default=True,
    help="Simulated heads to train on, where no --data is given; five slices each.",
)
@device_options
@click.pass_context
def command(
    ctx: click.Context,
    recipe: Path,
    settings: tuple[str, ...],
    data: Path | None,
    out: Path,
    phantoms: int,
    **how: Any,
) -> None:
    """Go from images to an exported, evaluated student by the YAML file RECIPE.

    In order: training data (simulated heads where no --data is given), the teacher, the student
    with its teacher (alone where distillation.weight is 0), the model (weights, ONNX, card), and
    its scores on a simulated scan that was never trained on, beside CG-SENSE, the teacher and,
    where it is installed, BART. The same command again goes on where it was stopped, and makes
    nothing again. --max-time is for the whole of it: trainings stop at a checkpoint, and neither
    the model nor its scores are begun when it is over.
    """
    from chpnet_training.distillation import refuse_patience
    from chpnet_training.recipe import load_recipe

    wanted = load_recipe(recipe, settings)
    refuse_patience(wanted)
    if wanted.student.task != "kspace":
        raise ConfigurationError(
            f"{recipe}: expected a recipe for the task 'kspace', found '{wanted.student.task}'; "
            "train it with `chpnet-train teacher`, `distill` and `export`"
        )
    as_json = how["as_json"]
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        trained = _train(ctx, wanted, data, out, phantoms, {**how, "as_json": False})
        if trained is None:
            ctx.exit(0)  # the first process has the rest to do
        card = _export(ctx, wanted, trained, out, how)
        scores = _evaluate(ctx, card, out, how, wanted.distillation.weight > 0)
    if as_json:
        show({"card": str(card), "picture": str(out / PICTURE), **scores}, title="", as_json=True)
    click.echo(
        f"look at {out / PICTURE}; use it with: chpnet-stream offline SCAN.h5 -o IMAGES.h5 "
        f"--model {card}",
        err=True,
    )


def _train(
    ctx: click.Context,
    recipe: Recipe,
    data: Path | None,
    out: Path,
    phantoms: int,
    how: dict[str, Any],
) -> tuple[Path, Path] | None:
    """Checkpoint of the student and its data; None in all processes but the first."""
    from chpnet_training import cmd_prepare
    from chpnet_training.runs import distillation_run, supervised_run
    from chpnet_training.trainer import BEST, CHECKPOINT

    taught = recipe.distillation.weight > 0
    where = out / "data.h5" if data is None else data
    if data is None and where.exists():
        _check_heads(where, phantoms)
    materials = make_materials(where, out, how, unused=taught)
    zero = materials.fabric.is_global_zero
    if zero:
        out.mkdir(parents=True, exist_ok=True)
        if not where.exists() and data is None:
            _say(1, f"training data from {phantoms} simulated heads")
            ctx.invoke(cmd_prepare.command, out=where, phantoms=phantoms)
    materials.fabric.barrier()
    folders = {name: replace(materials, out=out / name) for name in ("teacher", "student")}
    if taught:
        _say(2, "the teacher", zero)
        trainer = supervised_run(recipe.for_teacher(), "teacher", folders["teacher"])
        note_origin(trainer, where)
        if not run_and_report(ctx, trainer, "teacher", how):
            return None
    _say(3, "the student" + (" with its teacher" if taught else ""), zero)
    if taught:
        teacher = out / "teacher" / CHECKPOINT
        trainer = distillation_run(recipe, teacher, folders["student"])
        note_origin(trainer, where, teacher=teacher)
    else:
        trainer = supervised_run(recipe, "student", folders["student"])
        note_origin(trainer, where)
    if not run_and_report(ctx, trainer, "student", how) or not zero:
        return None
    ended_early = trainer.step < recipe.optimizer.steps
    return out / "student" / (BEST if ended_early else CHECKPOINT), where


def _check_heads(made: Path, wanted: int) -> None:
    """Refuse the simulated heads of another run.

    Raises:
        ConfigurationError: If there are more or fewer.
    """
    from chpnet_training.bank import SourceBank

    found = SourceBank.load(made).manifest["sources"].get("phantoms", {}).get("subjects", 0)
    if found != wanted:
        raise ConfigurationError(
            f"{made}: expected {wanted} simulated heads (--phantoms), found {found}; give "
            f"--phantoms {found}, or choose another --out folder"
        )


def _stop_late(ctx: click.Context, how: dict[str, Any]) -> None:
    """End before the next part where the time is over."""
    if time.monotonic() >= how["deadline"]:
        leave_unfinished(ctx)


def _export(
    ctx: click.Context,
    recipe: Recipe,
    trained: tuple[Path, Path],
    out: Path,
    how: dict[str, Any],
) -> Path:
    """The model's card, made of the checkpoint if it is older."""
    from chpnet_training import cmd_export

    checkpoint, data = trained
    card = out / "model" / f"{recipe.name}.json"
    if _is_newer(card, checkpoint):
        _say(4, f"the model: {card} is there")
        return card
    _stop_late(ctx, how)
    _say(4, "the model")
    ctx.invoke(cmd_export.command, checkpoint=checkpoint, out=card.parent, data=data)
    return card


def _evaluate(
    ctx: click.Context, card: Path, out: Path, how: dict[str, Any], taught: bool
) -> dict[str, Any]:
    """Scores of the model and of its teacher, made if they are older than the card."""
    from chpnet_training import cmd_evaluate
    from chpnet_training.trainer import CHECKPOINT

    scan, picture = out / "scan.h5", out / PICTURE
    if _is_newer(picture, card):
        _say(5, f"its scores: {picture.parent / SCORES} is there")
    else:
        _stop_late(ctx, how)
        _say(5, "its scores on a simulated scan")
        if not scan.exists():
            ctx.invoke(cmd_simulate.command, out=scan, **SCAN)
        teacher = (f"teacher={out / 'teacher' / CHECKPOINT}",) if taught else ()
        ctx.invoke(
            cmd_evaluate.command,
            model=str(card),
            data=scan,
            out=picture.parent,
            repeats=2,
            networks=teacher,
        )
    scores: dict[str, Any] = json.loads((picture.parent / SCORES).read_text(encoding="utf-8"))
    return scores


def _is_newer(made: Path, source: Path) -> bool:
    return made.exists() and made.stat().st_mtime_ns >= source.stat().st_mtime_ns


def _say(step: int, what: str, shown: bool = True) -> None:
    if shown:
        click.echo(f"[{step}/{STEPS}] {what}", err=True)
