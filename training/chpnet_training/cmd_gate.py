"""`chpnet-train gate`: limits of a model's quality gate."""

from __future__ import annotations

from pathlib import Path

import click

from chpnet_stream.cli.formatter import show
from chpnet_training.options import data_option


@click.command("gate")
@click.argument("card", type=click.Path(dir_okay=False, path_type=Path))
@data_option
@click.option(
    "--slices",
    type=click.IntRange(20),
    default=1500,
    show_default=True,
    help="Simulated slices of the training split that set the limits.",
)
@click.option(
    "--check",
    "checks",
    type=click.IntRange(0),
    default=3200,
    show_default=True,
    help="Slices of the validation split that false alarms are counted on.",
)
@click.option(
    "--margin",
    type=click.FloatRange(1.0),
    default=1.5,
    show_default=True,
    help="From the largest value of a good slice to the limit.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the simulated scans.")
@click.option("--dry-run", is_flag=True, help="Leave CARD as it is.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    card: Path,
    data: Path,
    slices: int,
    checks: int,
    margin: float,
    seed: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Set the limits of the quality gate of the model CARD (a .json file) and write them into it.

    The gate compares every image of the network with the measured data and with the conventional
    image before it is sent. How far good images differ depends on the model: here the largest
    differences on simulated scans of the training pictures, times a margin, become its limits, and
    false alarms are counted on scans of the validation pictures. Takes about 50 ms a slice.
    """
    from rich.console import Console
    from rich.progress import track

    from chpnet_stream.engines.choice import make_engine
    from chpnet_training.bank import SourceBank
    from chpnet_training.gate_calibration import (
        false_alarms,
        findings,
        good_scans,
        set_limits,
        write_limits,
    )
    from chpnet_training.kspace_model import find_kspace_model

    bank = SourceBank.load(data)
    engine = make_engine("pytorch", find_kspace_model(str(card)), precision="fp32")
    console = Console(stderr=True)

    def found(split: str, count: int, seed: int, words: str) -> list:
        scans = track(
            good_scans(bank, split, count, seed), words, count, console=console, transient=True
        )
        return list(findings(iter(scans), engine))

    good = found("train", slices, seed, "slices for the limits")
    limits = set_limits([j.quality for j in good if j.quality], margin=margin, data=bank.checksum)
    alarms = None
    if checks:
        alarms = false_alarms(found("val", checks, seed + 1, "false alarms"), limits)
    if not dry_run:
        write_limits(card, limits)
    rows = {**limits.model_dump(), "change": ", ".join(f"{v:g}" for v in limits.change)}
    if alarms is not None:
        rows |= {
            "checked": alarms.scans,
            "false_alarms": alarms.alarms,
            "rate_95_upper": round(alarms.upper, 6),
            "marks": alarms.marks,
        }
    show({**rows, "written": not dry_run}, title=f"Quality gate of {card.stem}", as_json=as_json)
