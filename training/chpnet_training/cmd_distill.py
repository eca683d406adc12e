"""`chpnet-train distill`: trains a student with a teacher that learns while it teaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chpnet_training.beginning import initial_option, note_origin
from chpnet_training.options import (
    data_option,
    device_options,
    make_materials,
    out_option,
    recipe_options,
    run_and_report,
)


@click.command("distill")
@recipe_options
@data_option
@click.option(
    "--teacher",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="CHECKPOINT",
    help="The trained teacher: last.ckpt of `chpnet-train teacher` with the same recipe.",
)
@initial_option("the student of another run (.ckpt), or with a model", "CHECKPOINT|MODEL")
@out_option
@device_options
@click.pass_context
def command(
    ctx: click.Context,
    recipe: Path,
    settings: tuple[str, ...],
    data: Path,
    teacher: Path,
    initial: Path | None,
    out: Path,
    **how: Any,
) -> None:
    """Train the student of the YAML file RECIPE with a teacher that is corrected while it teaches.

    Every mechanism is a switch in the recipe's section `distillation` (docs/distillation.md):
    correction of the target, feedback, the teacher's weights, its structure. TensorBoard shows how
    much was corrected, how useful the teaching was, and how many blocks are open over time:
    tensorboard --logdir RUN.
    """
    from chpnet_training.recipe import load_recipe
    from chpnet_training.runs import distillation_run

    wanted = load_recipe(recipe, settings)
    materials = make_materials(data, out, how, unused=True)
    trainer = distillation_run(wanted, teacher, materials, initial)
    note_origin(trainer, data, initial=initial, teacher=teacher)
    run_and_report(ctx, trainer, "student with its teacher", how)
