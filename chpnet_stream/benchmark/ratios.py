"""How many times as fast as others an engine is: like compared with like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chpnet_stream.benchmark.references import BART, CG_SENSE, ONNX_NAME, PAPER

FLOOR_NAME = "FFT + RSS of the gadgetron package's example"

COMPARISONS = {
    "paper_size": (PAPER, "network"),
    "onnx_runtime": (ONNX_NAME, "network"),
    "cg_sense": (CG_SENSE, "image"),
    "bart_pics": (BART, "image"),
    "fft_rss_gadget": (FLOOR_NAME, "gadget"),
}
"""What is compared: a network with networks, an image with images made in the same process, and
latency through a socket with that of another gadget."""


def ratios(
    streamed: Sequence[Mapping[str, Any]], references: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row for each engine and size; above one: faster than that. None: one was not measured.

    Args:
        streamed: Rows of the first table.
        references: Rows by other methods, of the same sizes.
    """
    return [_row(row, references) for row in streamed]


def _row(row: Mapping[str, Any], references: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    size = (row["coils"], row["matrix"])
    here = [r for r in references if (r["coils"], r["matrix"]) == size]
    own = {r["part"]: r["ms"] for r in here if r.get("engine") == row["asked"]}
    own["gadget"] = row["p50_ms"]
    told: dict[str, Any] = {"coils": row["coils"], "matrix": row["matrix"], "engine": row["engine"]}
    for name, (what, part) in COMPARISONS.items():
        other = next((r["ms"] for r in here if (r["by"], r["part"]) == (what, part)), None)
        mine = own.get(part)
        told[name] = other / mine if other and mine else None
    return told
