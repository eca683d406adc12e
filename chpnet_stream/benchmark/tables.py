"""Results as Markdown and as plain values, with the machine and the versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chpnet_stream.benchmark.machine import machine
from chpnet_stream.benchmark.plan import ACCELERATION, CALIBRATION_LINES, Case
from chpnet_stream.benchmark.ratios import COMPARISONS, ratios
from chpnet_stream.benchmark.run import Results

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
    "fallbacks": None,
    "per_second": 2,
    "peak_mb": 0,
    "device_mb": 0,
    "rest_percent": 0,
    "load": 1,
}
"""Columns of the first table, and their decimals."""

REFERENCES = {
    "coils": None,
    "matrix": None,
    "what": None,
    "part": None,
    "ms": 1,
    "faster_than_paper_size": 1,
}
RATIOS = {"coils": None, "matrix": None, "engine": None} | dict.fromkeys(COMPARISONS, 2)


def as_dict(results: Results) -> dict[str, Any]:
    """Everything as plain values."""
    plan = results.plan
    return {
        "machine": machine(),
        "model": results.model,
        "slices": plan.slices,
        "rate_per_s": plan.rate,
        "deadline_ms": plan.deadline_ms,
        "set_deadline": plan.set_deadline,
        "maps": plan.maps,
        "streamed": results.streamed,
        "references": results.references,
        "ratios": ratios(results.streamed, results.references),
        "unusable": results.unusable,
        "failed": results.failed,
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
    if plan.set_deadline:
        late += (
            ", which the gadget is told as its deadline: behind it the conventional image goes out"
        )
    parts = [
        f"""# Latency

Made by `{command}`.

Simulated slices of the head phantom (R = {ACCELERATION} + {CALIBRATION_LINES} lines, one coil:
R = 1; noise scan) through a gadget's process and a real socket: {pace}; {maps}.
Latency: last byte of a slice's last readout sent to last byte of its image received. cold: the
first slice, sent while the gadget still loads; start: from the start of its process to the image.
per second: slices without a pause. late: later than {late}. fallbacks: images that are not the
network's, of all of them. rest: share of the stages' time that is not the network. Peak of the
gadget's memory, and of what it held of the GPU's. load: processes that wanted a core at its end.

Hardware: {told["processor"]}, {told["cores"]} cores, {gpu}; threads: {told["threads"]}.
Software: {versions}.
Model: {results.model}.
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
            "\n## Stages, ms a slice\n\nMeans of all slices, the first and those without a pause "
            "included.\n",
            markdown_table(rows, dict.fromkeys(stages, 1)),
        ]
    if results.references:
        parts += [
            "\n## How many times as fast as others\n\nNetworks alone beside the paper-size student "
            "and ONNX Runtime in fp32; whole images beside CG-SENSE and BART; p50 beside the "
            "gadget of the gadgetron package, which only transforms and adds up. Below one: "
            "slower.\n",
            markdown_table(ratios(results.streamed, results.references), _digits(RATIOS)),
            "\n## The same slice by others\n\nMedians, maps known. network: alone; image: from the "
            "slice to its image in one process; gadget: through the socket, as the first table.\n",
            markdown_table([_cut(r, REFERENCES) for r in results.references], _digits(REFERENCES)),
        ]
    missing = dict(results.unusable) | results.failed
    for row in results.references:
        if row.get("why"):
            missing[f"{Case(row['matrix'], row['coils']).words}, {row['what']}"] = row["why"]
    if missing:
        parts.append("\n## Not measured\n")
        parts += [f"- {name}: {why}" for name, why in missing.items()]
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
