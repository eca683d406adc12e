"""Quality of every method on the real brain: writes docs/tables/quality.md.

The work is that of `chpnet-train evaluate`, at several accelerations. Without the raw data there is
nothing to score: the program says so, and leaves the table as it is.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from report import CHECKOUT, TABLES, machine, markdown_table, write

from chpnet_stream.engines.choice import make_engine
from chpnet_stream.network.card import ModelCard
from chpnet_stream.network.weights import DEFAULT_MODEL, find_model
from chpnet_training.baselines import PICS_OPTIONS
from chpnet_training.checkpoint_engine import CheckpointEngine, facts_of, parse_networks
from chpnet_training.evaluation import Evaluation, average, evaluate_scan, find_scan

DIGITS = {"PSNR dB": 2, "SSIM": 4, "NMSE": 5, "HFEN": 4, "maps ms": 0, "image ms": 0}


def main() -> None:
    """Run by `make bench`."""
    parser = argparse.ArgumentParser(description=__doc__)
    shared = os.environ.get("CHPNET_SHARED_DATA", str(CHECKOUT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(shared), help="folder or scan")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="installed model or card")
    parser.add_argument("--accelerations", type=int, nargs="+", default=[2, 4, 6, 8])
    parser.add_argument("--calibration-lines", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--no-bart", action="store_true")
    parser.add_argument(
        "--network", action="append", default=[], help="LABEL=CHECKPOINT, as evaluate"
    )
    parser.add_argument("--out", type=Path, default=TABLES / "quality.md")
    options = parser.parse_args()
    if not options.data.exists():
        print("quality: no raw data (set CHPNET_SHARED_DATA or --data); the table stays as it is")
        return
    engine = make_engine("auto", find_model(options.model))
    scan, others = find_scan(options.data), parse_networks(tuple(options.network))
    parts = []
    rows: list[Evaluation] = []
    for acceleration in options.accelerations:
        print(f"quality: R = {acceleration}")
        rows = evaluate_scan(
            scan,
            engine,
            acceleration=acceleration,
            calibration_lines=options.calibration_lines,
            repeats=options.repeats,
            bart=not options.no_bart,
            others=others,
        )
        kept, lines = rows[0].lines, rows[0].reference.shape[0]
        parts.append(f"## R = {acceleration}: {kept} of {lines} lines\n")
        parts.append(markdown_table([_row(row) for row in average(rows)], DIGITS) + "\n")
    heading = _heading(scan, rows[0], engine.card, engine.name, options)
    text = "\n".join([heading, *_networks(others), *parts])
    write(options.out, text)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    fallen = f" ({row['fallbacks']} fell back)" if row["fallbacks"] else ""
    return {
        "method": f"{row['method']}{fallen}",
        "coil maps": row["maps"],
        "PSNR dB": row["psnr_db"],
        "SSIM": row["ssim"],
        "NMSE": row["nmse"],
        "HFEN": row["hfen"],
        "maps ms": row["calibration_ms"],
        "image ms": row["image_ms"],
    }


def _networks(others: Mapping[str, CheckpointEngine]) -> list[str]:
    """What the networks beside the model are; nothing where there are none."""
    if not others:
        return []
    rows = [
        {
            "method": label,
            "network": facts["name"],
            "parameters": f"{facts['parameters']:,}",
            "GMAC at 320 x 320": facts["gmac_320"],
            "steps": facts["steps"],
            "seed": facts["seed"],
        }
        for label, facts in ((label, facts_of(one.card)) for label, one in others.items())
    ]
    title = "Networks of training runs (`--network`), in float32 by PyTorch:\n"
    return [title, markdown_table(rows, {"GMAC at 320 x 320": 2}) + "\n"]


def _heading(
    scan: Path, example: Evaluation, card: ModelCard, engine: str, options: argparse.Namespace
) -> str:
    lines, columns = example.reference.shape
    commands = "; ".join(f"{name} `pics {' '.join(o)}`" for name, o in PICS_OPTIONS.items())
    return f"""# Quality on raw data

Made by `make bench` (`benchmarks/quality.py`).

Data: {scan.name}, {example.coils} coils, {lines} x {columns}, fully sampled raw k-space (which
trains nothing here); undersampled by keeping every R-th line and {options.calibration_lines} lines
around the centre.
Reference: the SENSE combination of all lines by the coil maps of the undersampled data. Scores are
taken inside the object, after a least-squares scale, with the reference's maximum as peak.
Coil maps "chpnet-stream": all methods get the same whitened, compressed data, maps and reference.
"bart": BART's own ESPIRiT maps and the reference by these.

Model: {card.name} ({card.checksum}), {card.training}; {card.steps} steps, seed {card.seed},
{card.parameters:,} parameters, {card.gmac_320:.2f} GMAC at 320 x 320; engine {engine}.
Times: median of {options.repeats} after one to warm up, "maps ms" with whitening and compression.
BART's are one run of its program each, reading and writing files included, maps not included.
BART: {commands}.

{machine(torch.get_num_threads())}
"""


if __name__ == "__main__":
    main()
