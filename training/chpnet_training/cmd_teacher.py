"""`chpnet-train teacher`: trains the teacher before it teaches."""

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


@click.command("teacher")
@recipe_options
@data_option
@out_option
@initial_option("the teacher of another run (.ckpt)")
@device_options
@click.pass_context
def command(
    ctx: click.Context,
    recipe: Path,
    settings: tuple[str, ...],
    data: Path,
    out: Path,
    initial: Path | None,
    **how: Any,
) -> None:
    """Train the teacher of the YAML file RECIPE on the truth: the warm-up before it teaches.

    The same command again continues from the last checkpoint in --out; `chpnet-train distill` takes
    that checkpoint. The optimizer is that of the section `warmup` of the recipe.
    """
    from chpnet_training.recipe import load_recipe
    from chpnet_training.runs import supervised_run

    wanted = load_recipe(recipe, settings).for_teacher()
    check_initial(initial, "teacher")
    trainer = supervised_run(wanted, "teacher", make_materials(data, out, how), initial)
    note_origin(trainer, data, initial=initial)
    run_and_report(ctx, trainer, "teacher", how)
