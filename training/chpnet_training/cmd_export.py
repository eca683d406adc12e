"""`chpnet-train export`: makes a model of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chpnet_stream.cli.formatter import show, text_of

if TYPE_CHECKING:
    from chpnet_stream.network.card import TrainingData
    from chpnet_training.recipe import Recipe

RESEARCH = "For research; no medical device, and no clinical evaluation was done."


@click.command("export")
@click.argument("checkpoint", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the model; files of the same name are replaced.",
)
@click.option("--name", help="Name of the model. [default: the recipe's]")
@click.option(
    "--data",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The data it was trained on (`chpnet-train prepare`): sources, licences, counts.",
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
@click.option("--limit", "limits", multiple=True, help="What it was not made for; repeatable.")
@click.option(
    "--training",
    default="supervised on simulated scans, without a teacher",
    show_default=True,
    help="How it was trained, in words.",
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
    limits: tuple[str, ...],
    training: str,
    as_json: bool,
) -> None:
    """Write the averaged student of CHECKPOINT (RUN/last.ckpt or RUN/best.ckpt) as a model.

    A model is a card NAME.json, the weights NAME.safetensors and one ONNX graph for each denoiser.
    The scores of the validation at that step go into the card.
    """
    from chpnet_stream.network.weights import find_model
    from chpnet_training.bank import SourceBank
    from chpnet_training.checkpoint import read_checkpoint
    from chpnet_training.export import export_model
    from chpnet_training.recipe import Recipe

    state = read_checkpoint(checkpoint)
    recipe = Recipe.model_validate(state["recipe"])
    metrics = _validation(state.get("scores", {}), recipe.student.task)
    if metrics_file is not None:
        metrics |= _read_metrics(metrics_file)
    path = export_model(
        checkpoint,
        out,
        name=name,
        data=_training_data(SourceBank.load(data).manifest),
        metrics=metrics,
        limits=(*_trained_for(recipe), *limits, RESEARCH),
        training=training,
        noise_factor=noise_factor,
        cg_steps=cg_steps,
    )
    model = find_model(path)
    model.verify()
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


def _training_data(manifest: dict[str, Any]) -> tuple[TrainingData, ...]:
    """The sources that images were trained on (sources of validation images only are none)."""
    from chpnet_stream.network.card import TrainingData

    return tuple(
        TrainingData(name=name, licence=facts["licence"], images=facts["train"])
        for name, facts in manifest["sources"].items()
        if facts["train"]
    )


VALIDATED = {
    "kspace": ("simulated scans, held-out images", "CG-SENSE on the same"),
    "superres": ("simulated coarse images, held-out images", "interpolation of the same"),
}
"""What a validation has scored, by task: the network, and the image that it begins with."""


def _validation(scores: dict[str, float], task: str) -> dict[str, dict[str, float]]:
    """Scores of the run's validation for the card; none where there was no validation."""
    if not scores:
        return {}
    network, start = VALIDATED[task]
    return {
        network: {"psnr_db": scores["psnr"], "ssim": scores["ssim"]},
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


def _trained_for(recipe: Recipe) -> tuple[str, ...]:
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
        "Trained on magnitude images with simulated coils, phase and noise.",
    )
