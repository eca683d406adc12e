"""`chpnet-train run`: everything a recipe needs, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chpnet_stream.cli import cmd_simulate
from chpnet_stream.errors import ConfigurationError
from chpnet_training.options import (
    device_options,
    make_materials,
    recipe_options,
    run_and_report,
)

STEPS = 5
TEST_SEED = 4711
"""Of the simulated scan; training heads have small seeds."""


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

    In order: training data (simulated heads where no --data is given), the teacher, the student with
    its teacher (alone where distillation.weight is 0), the model (weights, ONNX, card), and its
    scores on a simulated scan that was never trained on, beside CG-SENSE and, where it is
    installed, BART. The same command again goes on where it was stopped.
    """
    from chpnet_training import cmd_evaluate, cmd_export, cmd_prepare
    from chpnet_training.recipe import load_recipe
    from chpnet_training.runs import distillation_run, supervised_run
    from chpnet_training.trainer import CHECKPOINT

    wanted = load_recipe(recipe, settings)
    if wanted.student.task != "kspace":
        raise ConfigurationError(
            f"{recipe}: expected a recipe for the task 'kspace', found '{wanted.student.task}'; "
            "train it with `chpnet-train teacher`, `distill` and `export`"
        )
    out.mkdir(parents=True, exist_ok=True)
    if data is None:
        data = out / "data.h5"
        if not data.exists():
            _say(1, f"training data from {phantoms} simulated heads")
            ctx.invoke(cmd_prepare.command, out=data, phantoms=phantoms)
    taught = wanted.distillation.weight > 0
    if taught:
        _say(2, "the teacher")
        materials = make_materials(data, out / "teacher", how)
        trainer = supervised_run(wanted.for_teacher(), "teacher", materials)
        if not run_and_report(ctx, trainer, "teacher", how):
            return
    _say(3, "the student" + (" with its teacher" if taught else ""))
    materials = make_materials(data, out / "student", how)
    if taught:
        trainer = distillation_run(wanted, out / "teacher" / CHECKPOINT, materials)
    else:
        trainer = supervised_run(wanted, "student", materials)
    if not run_and_report(ctx, trainer, "student", how):
        return
    if not trainer.fabric.is_global_zero:
        return
    _say(4, "the model")
    words = "distilled on simulated scans" if taught else "supervised on simulated scans"
    checkpoint = out / "student" / CHECKPOINT
    ctx.invoke(
        cmd_export.command, checkpoint=checkpoint, out=out / "model", data=data, training=words
    )
    _say(5, "its scores on a simulated scan")
    scan = out / "scan.h5"
    if not scan.exists():
        ctx.invoke(
            cmd_simulate.command, out=scan, slices=2, coils=8, acceleration=1, seed=TEST_SEED
        )
    ctx.invoke(
        cmd_evaluate.command,
        model=str(out / "model" / f"{wanted.name}.json"),
        data=scan,
        out=out / "evaluation",
        repeats=2,
    )
    click.echo(
        f"look at {out / 'evaluation' / 'comparison.png'}; use it with: chpnet-stream offline "
        f"SCAN.h5 -o IMAGES.h5 --model {out / 'model' / (wanted.name + '.json')}",
        err=True,
    )


def _say(step: int, what: str) -> None:
    click.echo(f"[{step}/{STEPS}] {what}", err=True)
