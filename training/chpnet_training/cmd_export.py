"""`chpnet-train export`: makes a model of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chpnet_stream.cli.formatter import show, text_of

if TYPE_CHECKING:
    from chpnet_stream.engines.engine import Engine
    from chpnet_training.provenance import Origin
    from chpnet_training.recipe import Recipe


def _file_name(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    from chpnet_training.recipe import check_name

    try:
        return None if name is None else check_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


RESEARCH = "For research; no medical device, and no clinical evaluation was done."


@click.command("export")
@click.argument("checkpoint", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the model; files of the same name are replaced.",
)
@click.option(
    "--name", callback=_file_name, help="Name of the model and its files. [default: the recipe's]"
)
@click.option(
    "--data",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The data it was trained on (`chpnet-train prepare`): sources, licences, counts, and the "
    "held-out images that the model is scored on.",
)
@click.option(
    "--metrics",
    "metrics_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="More scores for the card: the metrics.json of `chpnet-train evaluate`.",
)
@click.option(
    "--noise-factor",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="The network is told this multiple of the noise level (see `chpnet-train tune`).",
)
@click.option(
    "--cg-steps",
    type=click.IntRange(1),
    help="Conjugate-gradient steps of an iteration. [default: those of the training]",
)
@click.option(
    "--licence",
    default="not stated",
    show_default=True,
    help="Licence of the weights; those of the data are told beside it.",
)
@click.option("--limit", "limits", multiple=True, help="What it was not made for; repeatable.")
@click.option(
    "--training",
    help="How it was trained, in words. [default: what the checkpoint tells of it]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(
    checkpoint: Path,
    out: Path,
    name: str | None,
    data: Path,
    metrics_file: Path | None,
    noise_factor: float,
    cg_steps: int | None,
    licence: str,
    limits: tuple[str, ...],
    training: str | None,
    as_json: bool,
) -> None:
    """Write the averaged student of CHECKPOINT (RUN/best.ckpt or RUN/last.ckpt) as a model.

    A model is a card NAME.json, the weights NAME.safetensors and one ONNX graph for each denoiser.
    Before anything is written, the graphs are compared with the weights in float64. The card tells
    how near they are, the scores of this very model on the validation's slices, and the data and
    steps of all runs behind it (`finetune`, `--initial`, the teacher).
    """
    from chpnet_stream.network.weights import find_model
    from chpnet_training.checkpoint import read_checkpoint, stored_recipe
    from chpnet_training.export import export_checked
    from chpnet_training.provenance import origin_of, origin_of_run, training_of

    state = read_checkpoint(checkpoint)
    recipe = stored_recipe(state, checkpoint)
    _check_data(state, checkpoint, data)
    origin = origin_of(state)
    known = origin or origin_of_run(recipe, data)
    path = export_checked(
        checkpoint,
        out,
        name=name,
        data=known.all_data,
        score=lambda engine: _validation(engine, recipe, data),
        metrics={} if metrics_file is None else _read_metrics(metrics_file),
        limits=(*_trained_for(recipe, known), *limits, RESEARCH),
        training=training_of(state, known) if training is None else training,
        noise_factor=noise_factor,
        cg_steps=cg_steps,
        licence=licence,
    )
    model = find_model(path)
    files = [path, *model.files()]
    rows: dict[str, Any] = {
        "card": str(path),
        "name": model.card.name,
        "parameters": model.card.parameters,
        "gmac_320": model.card.gmac_320,
        "steps": model.card.steps,
        "checksum": model.card.checksum,
        "files": [file.name for file in files],
        "size_mb": sum(file.stat().st_size for file in files) / 1e6,
        "scores": model.card.metrics,
    }
    if not as_json:
        rows["scores"] = [f"{data}: {text_of(found)}" for data, found in rows["scores"].items()]
    show(rows, title="Exported model", as_json=as_json)


def _check_data(state: dict[str, Any], checkpoint: Path, data: Path) -> None:
    """Refuse data that a checkpoint was not trained on: the card would name wrong sources.

    Raises:
        InputError: As said.
    """
    from chpnet_stream.errors import InputError
    from chpnet_training.bank import SourceBank
    from chpnet_training.checkpoint import given_to

    trained_on, found = given_to(state).get("data"), SourceBank.load(data).identity
    if trained_on is None:
        click.echo(
            f"{checkpoint} does not say what it was trained on, as those of older versions: the "
            f"card will name the sources of {found}",
            err=True,
        )
    elif trained_on.checksum != found.checksum:
        raise InputError(
            f"{checkpoint}: expected the data that it was trained on, {trained_on}, found --data "
            f"{found}; give that file"
        )


VALIDATED = {
    "kspace": ("simulated scans, held-out images", "CG-SENSE on the same"),
    "superres": ("simulated coarse images, held-out images", "interpolation of the same"),
}
"""What the validation's slices are, by task: for the network, and the image it begins with."""
MEASURED = "simulated and measured scans, held-out subjects"
"""What they are where k-space is kept beside some of the images."""


def _validation(engine: Engine, recipe: Recipe, data: Path) -> dict[str, dict[str, float]]:
    """Scores of a model on its validation's slices, for the card; none without held-out images.

    They are those of the exported weights, its conjugate-gradient steps and noise factor, which
    need not be those of the training.
    """
    from torch import Tensor

    from chpnet_stream.engines.engine import Problem
    from chpnet_stream.network.normal import Normal
    from chpnet_training.bank import SourceBank
    from chpnet_training.runs import validation_batches
    from chpnet_training.unseen import images_of
    from chpnet_training.validation import validate

    def network(start: Tensor, adjoint: Tensor, normal: Normal, noise: Tensor) -> Tensor:
        return engine.run(Problem(start, adjoint, normal, engine.card.noise_factor * noise))

    bank = SourceBank.load(data)
    held_out = images_of(bank, "val", recipe)
    if not held_out.size:
        return {}
    scores = validate(network, validation_batches(recipe, data))
    made, start = VALIDATED[recipe.student.task]
    if recipe.student.task == "kspace" and bank.raw[held_out].any():
        made = MEASURED
    return {
        made: {"psnr_db": scores["psnr"], "ssim": scores["ssim"]},
        start: {"psnr_db": scores["start_psnr"], "ssim": scores["start_ssim"]},
    }


def _read_metrics(path: Path) -> dict[str, dict[str, float]]:
    """Scores by data and name.

    Raises:
        InputError: If the file is no JSON object of objects of numbers.
    """
    from pydantic import TypeAdapter, ValidationError

    from chpnet_stream.errors import InputError

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(dict[str, dict[str, float]]).validate_python(content)
    except (OSError, ValueError, ValidationError) as error:
        raise InputError(
            f"{path}: expected JSON as {{data: {{metric: number}}}}, found: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _trained_for(recipe: Recipe, origin: Origin) -> tuple[str, ...]:
    """The range of what it was trained on, in words."""
    if recipe.student.task == "superres":
        coarse = recipe.superres
        times = " or ".join(str(f) for f in sorted(set(coarse.factors)))
        pixels = {"blocks": "means of blocks", "centre": "the centre of k-space"}[coarse.measured]
        least, most = coarse.noise
        return (
            f"Trained for {times} times the pixels along each axis, from magnitude images whose "
            f"pixels are {pixels}, with noise of {100 * least:g} to {100 * most:g} % of the 99th "
            "percentile.",
        )
    scan = recipe.simulation
    factors = sorted(set(scan.accelerations))
    return (
        f"Trained for R = {factors[0]} to {factors[-1]} with {scan.calibration[0]} to "
        f"{scan.calibration[1]} calibration lines and up to {scan.virtual_coils} virtual coils; "
        "other sampling is untested.",
        _trained_on(origin),
    )


def _trained_on(origin: Origin) -> str:
    """Whether the scans of the training were simulated or measured, in words."""
    simulated = sum(source.images for source in origin.data) - origin.measured
    slices = f"{origin.measured:,} slices of measured k-space, undersampled"
    if not origin.measured:
        return "Trained on magnitude images with simulated coils, phase and noise."
    if simulated <= 0:
        return f"Trained on {slices}; their targets have the noise of the full scan."
    return (
        f"Trained on {slices}, whose targets have the noise of the full scan, and on "
        f"{simulated:,} magnitude images with simulated coils, phase and noise."
    )
