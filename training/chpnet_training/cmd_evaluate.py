"""`chpnet-train evaluate`: scores a model on fully sampled raw data."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chpnet_stream.cli.formatter import show, show_list
from chpnet_stream.schema import SETTINGS
from chpnet_stream.whole_file import write_whole
from chpnet_training.csv_file import write_rows

if TYPE_CHECKING:
    from chpnet_stream.engines.engine import Engine
    from chpnet_training.evaluation import Evaluation

SCORES = ("psnr_db", "ssim", "nmse", "hfen")
COLUMNS = ("method", "maps", *SCORES, "calibration_ms", "image_ms", "fallbacks")
SHOWN = ("zero-filled", "cg-sense", "bart l1-wavelet", "chpnet")
"""First methods in the picture: all with the same maps, so with the same reference."""


@click.command("evaluate")
@click.argument("model")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="A fully sampled ISMRMRD file, or the folder with espirit-full-brain-8ch.",
)
@click.option("--group", default="dataset", show_default=True, help="HDF5 group of the scan.")
@click.option(
    "-R",
    "--acceleration",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="Keep every R-th line.",
)
@click.option(
    "--calibration-lines",
    type=click.IntRange(8),
    default=24,
    show_default=True,
    help="Lines kept around the k-space centre.",
)
@click.option(
    "--engine",
    type=click.Choice(SETTINGS["engine"].choices),
    default="auto",
    show_default=True,
    help="Inference engine.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Runs whose median time is shown, after one to warm up.",
)
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="LABEL=CHECKPOINT[:NETWORK]",
    help="Also score a network of a training run (student, teacher or unet) in the same table; "
    "repeatable.",
)
@click.option("--bart/--no-bart", default=True, help="Run BART's methods, where it is installed.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for evaluation.csv (each slice), evaluation.json (this table), metrics.json (for "
    "`chpnet-train export --metrics`) and comparison.png.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def command(
    model: str,
    data: Path,
    group: str,
    acceleration: int,
    calibration_lines: int,
    engine: str,
    repeats: int,
    networks: tuple[str, ...],
    bart: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Undersample a scan, reconstruct it as the product does, and score it against all lines.

    MODEL is an installed model or the path of a card. Scores are taken inside the object, after a
    least-squares scale, with the maps of the undersampled data for image and reference. BART's
    methods appear twice: on our data and maps, and on its own maps (then with the reference of
    these). Times of BART are those of its program, reading and writing files included.

    The table has means over slices, each with the maximum of its reference as peak. The JSON has
    `volume_...` too: scores of all slices together, with one scale and one peak.
    """
    import torch
    from rich.console import Console

    from chpnet_stream.engines.choice import make_engine
    from chpnet_stream.pictures import require_matplotlib
    from chpnet_training.checkpoint_engine import facts_of, parse_networks
    from chpnet_training.evaluation import OWN_METHODS, average, evaluate_scan, find_scan
    from chpnet_training.kspace_model import find_kspace_model
    from chpnet_training.machine import describe_machine

    if out is not None:
        require_matplotlib()
    loaded = make_engine(engine, find_kspace_model(model))
    path, others = find_scan(data), parse_networks(networks)
    terminal = Console(stderr=True)
    with terminal.status("") as status:
        rows = evaluate_scan(
            path,
            loaded,
            group=group,
            acceleration=acceleration,
            calibration_lines=calibration_lines,
            repeats=repeats,
            bart=bart,
            others=others,
            progress=lambda name: status.update(name),
        )
    table = average(rows)
    scored: dict[str, Engine] = {OWN_METHODS[-1]: loaded, **others}
    facts = [{"method": label, **facts_of(one.card)} for label, one in scored.items()]
    settings: dict[str, Any] = {
        "data": path.name,
        "acceleration": acceleration,
        "calibration_lines": calibration_lines,
        "model": loaded.card.name,
        "checksum": loaded.card.checksum,
        "engine": loaded.name,
        "threads": torch.get_num_threads(),
        "repeats": repeats,
        "networks": facts,
        "machine": describe_machine(),
    }
    if out is not None:
        _write(out, rows, table, settings)
    if as_json:
        show({**settings, "methods": table}, title="", as_json=True)
    else:
        heading = (
            f"{path.name}, R = {acceleration} + {calibration_lines} lines; {loaded.card.name} "
            f"({loaded.card.checksum}) on {loaded.name}, {settings['threads']} threads"
        )
        show_list(table, title=heading, columns=COLUMNS)
        show_list(facts, title="Networks; GMAC of one slice of 320 x 320")


def _write(
    folder: Path, rows: list[Evaluation], table: list[dict[str, Any]], settings: dict[str, Any]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    each = [
        {"slice": row.slice, "method": row.method, "maps": row.maps}
        | dict(zip(SCORES, dataclasses.astuple(row.score), strict=True))
        | {"calibration_ms": row.calibration_ms, "image_ms": row.milliseconds}
        | {"fallback": row.fallback}
        for row in rows
    ]
    write_rows(folder / "evaluation.csv", each)
    _write_json(folder / "evaluation.json", {**settings, "methods": table})
    _write_json(folder / "metrics.json", card_metrics(table, settings))
    _picture(folder / "comparison.png", rows, settings)


def card_metrics(
    table: list[dict[str, Any]], settings: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """What a model card says of this: chpnet's scores, and those of CG-SENSE beside them.

    Where the network made no image, or not a good one, the score is that of the image that went out
    instead, and its label says so.
    """
    where = (
        f"{settings['data']} R = {settings['acceleration']} + {settings['calibration_lines']} lines"
    )
    metrics = {}
    for method, label in (("chpnet", where), ("cg-sense", f"CG-SENSE on {where}")):
        row = next(row for row in table if row["method"] == method)
        if row["fallbacks"]:
            label += f" ({row['fallbacks']} of {row['slices']} images not by the network)"
        metrics[label] = {name: round(float(row[name]), 5) for name in SCORES}
    return metrics


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_whole(path, json.dumps(content, indent=2) + "\n")


def _picture(path: Path, rows: list[Evaluation], settings: dict[str, Any]) -> None:
    """The middle slice by every method of `SHOWN` and every other network, and the errors."""
    from chpnet_stream.pictures import Panel, save_comparison
    from chpnet_training.evaluation import OWN_MAPS

    numbers = sorted({row.slice for row in rows})
    middle = numbers[len(numbers) // 2]
    panels = []
    others = dict.fromkeys(
        row.method for row in rows if row.maps == OWN_MAPS and not row.method.startswith("bart ")
    )
    for method in dict.fromkeys((*SHOWN, *others)):
        for row in rows:
            if (row.method, row.maps, row.slice) == (method, OWN_MAPS, middle):
                text = f"{row.score.psnr:.1f} dB   SSIM {row.score.ssim:.3f}"
                error = row.image - row.reference
                panels.append(Panel(row.method, text, row.image, error))
                reference = row.reference
    panels.append(Panel("reference", "all lines", reference))
    heading = (
        f"{settings['data']}   slice {middle}   R = {settings['acceleration']} + "
        f"{settings['calibration_lines']} lines   {settings['model']}"
    )
    save_comparison(path, panels, heading)
