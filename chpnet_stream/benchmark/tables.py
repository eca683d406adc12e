"""Results as Markdown and as plain values, with the machine and the versions."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from chpnet_stream import __version__
from chpnet_stream.benchmark.plan import ACCELERATION, CALIBRATION_LINES
from chpnet_stream.benchmark.run import Results
from chpnet_stream.engines.processor import processor

PACKAGES = ("torch", "onnxruntime", "openvino", "tensorrt", "numpy", "ismrmrd", "gadgetron")

STREAMED = {
    "coils": None,
    "matrix": None,
    "engine": None,
    "slices": None,
    "rate_per_s": 1,
    "p50_ms": 1,
    "p95_ms": 1,
    "p99_ms": 1,
    "max_ms": 1,
    "cold_ms": 0,
    "start_s": 1,
    "late": None,
    "per_second": 2,
    "peak_mb": 0,
    "device_mb": 0,
    "rest_percent": 0,
}
"""Columns of the first table, and their decimals."""

REFERENCES = {"coils": None, "matrix": None, "what": None, "ms": 1, "faster_than_paper_size": 1}


def machine() -> dict[str, Any]:
    """Processor, cores, GPU, load and versions; no host name, no paths."""
    import torch

    versions = {"python": platform.python_version(), "chpnet-stream": __version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    affinity = hasattr(os, "sched_getaffinity")
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if affinity else os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "versions": versions,
    }


def as_dict(results: Results) -> dict[str, Any]:
    """Everything as plain values."""
    plan = results.plan
    return {
        "machine": machine(),
        "slices": plan.slices,
        "rate_per_s": plan.rate,
        "late_ms": {f"{c.coils} x {c.matrix}": plan.late_of(c) for c in plan.cases},
        "maps": plan.maps,
        "streamed": results.streamed,
        "references": results.references,
        "unusable": results.unusable,
    }


def as_markdown(results: Results, command: str) -> str:
    """The tables, for a page."""
    plan, told = results.plan, machine()
    pace = (
        "as many slices a second as the table says, their lines evenly spread"
        if plan.rate is None
        else f"{plan.rate:g} slices a second, their lines evenly spread"
        if plan.rate
        else "each when the image of the one before has come"
    )
    maps = (
        "positions come again, coil maps are kept"
        if plan.maps == "kept"
        else "every slice is another position and needs maps of its own"
    )
    versions = ", ".join(f"{name} {number}" for name, number in told["versions"].items())
    gpu = told["gpu"] or "no GPU"
    limits = {plan.late_of(case) for case in plan.cases}
    late = f"{limits.pop():g} ms" if len(limits) == 1 else "twice the time of a slice"
    parts = [
        f"""# Latency

Made by `{command}`.

Simulated slices of the head phantom (R = {ACCELERATION} + {CALIBRATION_LINES} lines, one coil:
R = 1; noise scan) through a gadget's process and a real socket: {pace}; {maps}.
Latency: last byte of a slice's last readout sent to last byte of its image received. cold: the
first slice, sent while the gadget still loads; start: from the start of its process to the image.
per second: slices without a pause. late: later than {late}.
rest: share of the stages' time that is not the network. Peak of the process's memory, and of what
PyTorch held of the GPU's.

Hardware: {told["processor"]}, {told["cores"]} cores, {gpu}; threads: {told["threads"]}; load at the
end: {told["load"]}.
Software: {versions}.
""",
        markdown_table([_cut(r, STREAMED) for r in results.streamed], _digits(STREAMED)),
    ]
    stages = list(dict.fromkeys(s for row in results.streamed for s in row["stages_ms"]))
    if stages:
        rows = [
            {
                "coils": row["coils"],
                "matrix": row["matrix"],
                "engine": row["engine"],
                **{stage: row["stages_ms"].get(stage) for stage in stages},
            }
            for row in results.streamed
        ]
        parts += [
            "\n## Stages, ms a slice (mean)\n",
            markdown_table(rows, dict.fromkeys(stages, 1)),
        ]
    if results.references:
        parts += [
            "\n## The same slice by others\n\nNetworks alone, conventional images as a whole, "
            "medians; the example as a gadget.\n",
            markdown_table([_cut(r, REFERENCES) for r in results.references], _digits(REFERENCES)),
        ]
    if results.unusable:
        parts.append("\n## Not measured\n")
        parts += [f"- {name}: {why}" for name, why in results.unusable.items()]
    return "\n".join(parts) + "\n"


def _cut(row: Mapping[str, Any], columns: Mapping[str, int | None]) -> dict[str, Any]:
    return {name: row.get(name) for name in columns}


def _digits(columns: Mapping[str, int | None]) -> dict[str, int]:
    return {name: digits for name, digits in columns.items() if digits is not None}


def markdown_table(rows: Sequence[Mapping[str, Any]], digits: Mapping[str, int]) -> str:
    """A Markdown table of the rows, with the columns of the first.

    Args:
        rows: Values by column.
        digits: Decimals of the columns that hold numbers.
    """
    names = list(rows[0])
    lines = [
        f"| {' | '.join(name.replace('_', ' ').replace(' mb', ' MB') for name in names)} |",
        "|" + "|".join("---:" if name in digits else "---" for name in names) + "|",
    ]
    for row in rows:
        cells = (_cell(row[name], digits.get(name)) for name in names)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: Any, digits: int | None) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if digits is not None else str(value)
