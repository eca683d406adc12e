"""`chpnet-stream models`: which networks are installed, and their cards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chpnet_stream.cli.formatter import show, show_list, text_of

if TYPE_CHECKING:
    from chpnet_stream.network.card import PlanRecord
    from chpnet_stream.network.weights import Model

COLUMNS = ("name", "task", "parameters", "gmac_320", "metrics", "checksum", "size_mb", "files")


@click.command("models")
@click.argument("name", required=False)
@click.option("--verify", is_flag=True, help="Compare the files with the checksums of the cards.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str | None, verify: bool, as_json: bool) -> None:
    """List the installed networks, or show the whole card of NAME.

    NAME is an installed network or the path of a card (.json) with its files beside it. With
    --verify the exit code is 2 if a file is missing or damaged.
    """
    from chpnet_stream.errors import ModelError
    from chpnet_stream.network.weights import MODELS, find_model, installed_models

    if name is not None:
        model = find_model(name)
        _show_card(model, verify, as_json)
        faults = [_fault(model)] if verify else []
    else:
        names = installed_models()
        records = [_record(found, verify) for found in names]
        if as_json or records:
            show_list(records, title="Installed models", columns=COLUMNS, as_json=as_json)
        else:
            click.echo(
                f"No models are installed in {MODELS}. Train one with chpnet-train, or name its "
                "card: chpnet-stream models PATH.json"
            )
        faults = [record["fault"] for record in records] if verify else []
    broken = [fault for fault in faults if fault]
    if broken:
        raise ModelError("; ".join(broken))


def _record(name: str, verify: bool) -> dict[str, Any]:
    """One row of the list; a card that can't be read is a row, too."""
    from chpnet_stream.errors import ModelError
    from chpnet_stream.network.weights import find_model

    try:
        model = find_model(name)
    except ModelError as error:
        return {"name": name, "files": "card unreadable", "fault": str(error)}
    card = model.card
    return {
        "name": card.name,
        "task": card.student.task,
        "architecture": card.student.architecture,
        "parameters": card.parameters,
        "gmac_320": card.gmac_320,
        "data": [source.name for source in card.data],
        "metrics": [_scores(data, scores) for data, scores in card.metrics.items()],
        "checksum": card.checksum,
        **_files(model, verify),
    }


def _files(model: Model, verify: bool) -> dict[str, Any]:
    """Size on disk and the state of the files; checksums are computed with `verify` only."""
    paths = list(model.files())
    missing = [path.name for path in paths if not path.is_file()]
    size = sum(path.stat().st_size for path in paths if path.is_file())
    fault = _fault(model) if verify else None
    if missing:
        state = f"missing: {', '.join(missing)}"
    elif verify:
        state = "damaged" if fault else "intact"
    else:
        state = "present"
    return {"size_mb": round(size / 1e6, 3), "files": state, "fault": fault}


def _fault(model: Model) -> str | None:
    from chpnet_stream.errors import ModelError

    try:
        model.verify()
    except ModelError as error:
        return str(error)
    return None


def _scores(data: str, scores: dict[str, float]) -> str:
    """Scores in one line: "brain: psnr 35.1, ssim 0.951"."""
    return f"{data}: {text_of(scores)}"


def _show_card(model: Model, verify: bool, as_json: bool) -> None:
    card = model.card
    files = _files(model, verify)
    if as_json:
        show({**card.model_dump(mode="json"), **files}, title="", as_json=True)
        return
    rows: dict[str, Any] = {
        "name": card.name,
        "task": card.student.task,
        "architecture": card.student.architecture,
        **{
            key: value
            for key, value in card.student.model_dump().items()
            if key not in ("architecture", "task")
        },
        "parameters": card.parameters,
        "convolutions (320 x 320)_gmac": card.gmac_320,
        "starts from": f"CG-SENSE, {card.start_iterations} iterations, "
        f"regularization {card.start_regularization:g}",
        "trained on": [
            f"{source.name}: {source.images} images, {source.licence}" for source in card.data
        ],
        "training": card.training,
        "steps": card.steps,
        "seed": card.seed,
        "recipe": [text for text in _flat(card.recipe) if not text.startswith("student.")],
        "scores": [_scores(data, scores) for data, scores in card.metrics.items()],
        "limits": list(card.limits),
        "licence": card.licence,
        "weights SHA-256": card.weights_sha256,
        "ONNX SHA-256": list(card.onnx_sha256),
        "int8 SHA-256": list(card.int8_sha256),
        "plans": [_plan(record) for record in card.plans],
        "size_mb": files["size_mb"],
        "files": files["files"],
    }
    show(rows, title=f"Model {card.name}")


def _plan(record: PlanRecord) -> str:
    """Plans in one line: what they run on, and what they cost."""
    return (
        f"{record.package} {record.version}, {record.target}, {record.precision}, "
        f"{' '.join(record.shapes)}: {text_of(record.parity)}, measured on {record.measured_on}"
    )


def _flat(settings: dict[str, Any], prefix: str = "") -> list[str]:
    """Nested settings as lines "a.b = value"."""
    lines: list[str] = []
    for key, value in settings.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{prefix}{key}.")
        else:
            lines.append(f"{prefix}{key} = {value}")
    return lines
