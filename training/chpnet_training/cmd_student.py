"""`chpnet-train student`: trains a student on its own, and goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from chpnet_training.beginning import check_initial, initial_option, note_origin
from chpnet_training.options import (
    data_option,
    device_options,
    make_materials,
    out_option,
    recipe_options,
    run_and_report,
)


@click.command("student")
@recipe_options
@data_option
@out_option
@click.option(
    "--network",
    type=click.Choice(["student", "unet"]),
    default="student",
    show_default=True,
    help="What to train: the student, or the plain U-Net that it is compared with.",
)
@initial_option("the network of another run (.ckpt), or with a model", "CHECKPOINT|MODEL")
@device_options
@click.pass_context
def command(
    ctx: click.Context,
    recipe: Path,
    settings: tuple[str, ...],
    data: Path,
    out: Path,
    network: str,
    initial: Path | None,
    **how: Any,
) -> None:
    """Train the student of the YAML file RECIPE without a teacher, on the truth alone.

    `--initial` begins at the recipe's learning rate; `chpnet-train finetune` at a tenth of it.

    The same command again continues from the last checkpoint in --out. Ctrl-C makes a checkpoint
    after the step it comes in (exit code 130); a second Ctrl-C does not wait. On Linux the process
    restarts itself once, with settings of the memory allocator that make it twice as fast
    (environment variables MALLOC_*, where they are not set already).
    """
    from chpnet_training.recipe import load_recipe
    from chpnet_training.runs import supervised_run

    wanted = load_recipe(recipe, settings)
    check_initial(initial, network)
    trainer = supervised_run(wanted, network, make_materials(data, out, how), initial)
    note_origin(trainer, data, initial=initial)
    run_and_report(ctx, trainer, network, how)
