"""`chpnet-train finetune`: goes on with a trained student, on other data or at a lower rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chpnet_training.beginning import note_origin
from chpnet_training.options import (
    data_option,
    device_options,
    make_materials,
    out_option,
    recipe_options,
    run_and_report,
)


@click.command("finetune")
@recipe_options
@click.argument("initial", metavar="MODEL|CHECKPOINT", type=click.Path(path_type=Path))
@data_option
@out_option
@click.option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    help="Peak learning rate. [default: a tenth of the recipe's]",
)
@device_options
@click.pass_context
def command(
    ctx: click.Context,
    recipe: Path,
    settings: tuple[str, ...],
    initial: Path,
    data: Path,
    out: Path,
    rate: float | None,
    **how: Any,
) -> None:
    """Train a student on from an installed MODEL (or its card), or from a CHECKPOINT, by RECIPE.

    This is the way to your own protocol: `chpnet-train prepare` your images, fine-tune the shipped
    model on them, evaluate, export. It learns from the truth alone, at a low learning rate.
    """
    from chpnet_training.recipe import load_recipe
    from chpnet_training.runs import supervised_run

    read = load_recipe(recipe, settings)
    low = 0.1 * read.optimizer.learning_rate if rate is None else rate
    wanted = read.with_optimizer(learning_rate=low)
    trainer = supervised_run(wanted, "student", make_materials(data, out, how), initial)
    note_origin(trainer, data, initial=initial)
    run_and_report(ctx, trainer, "student", how)
