"""Does what a plan says, and gathers the results."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from chpnet_stream.benchmark.kept import Kept
from chpnet_stream.benchmark.peer import FLOOR, Streamed, stream
from chpnet_stream.benchmark.plan import Case, Plan
from chpnet_stream.benchmark.ratios import FLOOR_NAME
from chpnet_stream.benchmark.references import PAPER, measure_references
from chpnet_stream.benchmark.scan_bytes import ScanBytes
from chpnet_stream.engines.choice import make_engine
from chpnet_stream.errors import (
    ChpnetError,
    ConfigurationError,
    EngineError,
    ModelError,
    PeerError,
    PeerGoneError,
    ProtocolError,
)
from chpnet_stream.network.weights import find_model

NETWORK_STAGES = ("network",)
NETWORK_METHOD = "chpnet"
FLOOR_SLICES = 20
BURST = 8

Progress = Callable[[str, int, int], None]
"""What is done now, images so far, and images in all."""


@dataclass
class Results:
    """What was measured.

    Attributes:
        plan: What was asked for.
        streamed: One row an engine and size: latencies through the whole gadget.
        references: Rows of one slice by other methods, and the ratios.
        unusable: Why an engine was left out, by its name.
        failed: What the gadget said where it failed, by size and engine; nothing is kept of it, so
            that it is tried again when the run is resumed.
    """

    plan: Plan
    streamed: list[dict[str, Any]] = field(default_factory=list)
    references: list[dict[str, Any]] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def run_plan(plan: Plan, progress: Progress = lambda *_: None, kept: Kept | None = None) -> Results:
    """Measure.

    Args:
        plan: What.
        progress: Told of every image.
        kept: Where each part is kept as soon as it is measured, and parts that are there already
            are taken from.

    A size in which the gadget of an engine fails is left out, and told; the others are measured.

    Raises:
        ConfigurationError: None of the engines can be used here.
        PeerError, PeerGoneError: Every gadget failed.
    """
    if plan.threads:
        torch.set_num_threads(plan.threads)
    results = Results(plan)
    model = find_model(plan.model)
    engines: dict[str, Any] = {}
    for name in plan.engines:
        kind, _, precision = name.partition(":")
        try:
            engines[name] = made = make_engine(kind, model, precision=precision or "auto")
        except (EngineError, ModelError, ConfigurationError) as error:
            results.unusable[name] = str(error)
            continue
        if "instead of" in made.name:
            results.unusable[name] = f"it can't be used here: {made.name}"
            del engines[name]
    if not engines:
        reasons = "; ".join(f"{n}: {why}" for n, why in results.unusable.items())
        raise ConfigurationError(
            f"none of the engines {', '.join(plan.engines)} can be used here ({reasons}); choose "
            "others by --engine (see `chpnet-stream doctor`)"
        )
    floor = FLOOR_SLICES + 1 if plan.references else 0
    each = 1 + plan.slices + BURST
    total = len(plan.cases) * (len(engines) * each + floor)
    done = 0

    def one_more(what: str) -> Callable[[], None]:
        def told() -> None:
            nonlocal done
            done += 1
            progress(what, done, total)

        return told

    kept = kept or Kept(plan)
    failure: ProtocolError | None = None
    for case in plan.cases:
        size = f"{case.coils} coils, {case.matrix} x {case.matrix}"
        scan = None
        for name, engine in engines.items():
            before = kept.streamed(case, name)
            if before is not None:
                results.streamed.append(before)
                done += each
                progress(f"{size}, {engine.name}: measured before", done, total)
                continue
            scan = scan or ScanBytes(case, plan.maps)
            kind, _, precision = name.partition(":")
            properties = {"model": plan.model, "engine": kind}
            if precision:
                properties["precision"] = precision
            begun = done
            try:
                seen = stream(
                    scan,
                    plan.slices,
                    properties=properties,
                    rate=plan.rate_of(case, name),
                    threads=plan.threads,
                    burst=BURST,
                    progress=one_more(f"{size}, {engine.name}"),
                )
            except (PeerError, PeerGoneError) as error:
                failure = error
                results.failed[f"{size}, {name}"] = str(error)
                done = begun + each
                continue
            row = {"asked": name, **_row(case, name, engine.name, seen, plan)}
            results.streamed.append(row)
            kept.keep_streamed(case, name, row)
        if plan.references:
            rows = kept.references(case)
            if rows is None:
                scan = scan or ScanBytes(case, plan.maps)
                rows = _references(case, scan, engines, plan, one_more(f"{size}, FFT"))
                kept.keep_references(case, rows)
            else:
                done += floor
            results.references += rows
    if failure is not None and not results.streamed:
        raise failure
    return results


def _row(case: Case, asked: str, engine: str, seen: Streamed, plan: Plan) -> dict[str, Any]:
    """One row of the first table; the first slice is told apart, since the gadget was cold."""
    cold, warm = seen.latencies_ms[0], np.asarray(seen.latencies_ms[1:])
    p50, p95, p99 = (float(p) for p in np.percentile(warm, [50, 95, 99]))
    images = sum(seen.methods.values())
    stages = {name: ms / images for name, ms in seen.report.get("stages_ms", {}).items()}
    network = sum(stages.get(name, 0.0) for name in NETWORK_STAGES)
    return {
        "coils": case.coils,
        "matrix": case.matrix,
        "engine": engine,
        "slices": len(warm),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "max_ms": float(warm.max()),
        "cold_ms": cold,
        "start_s": seen.start_s,
        "rate_per_s": plan.rate_of(case, asked),
        "late_ms": plan.late_of(case, asked),
        "late": int((warm > plan.late_of(case, asked)).sum()),
        "per_second": seen.burst / seen.burst_s if seen.burst_s else None,
        "peak_mb": seen.report.get("peak_mb"),
        "device_mb": seen.report.get("device_mb"),
        "stages_ms": stages,
        "network_ms": network,
        "rest_percent": 100 * (1 - network / sum(stages.values())) if network else None,
        "methods": seen.methods,
        "fallbacks": images - seen.methods.get(NETWORK_METHOD, 0),
        "load": os.getloadavg()[0],
    }


def _references(
    case: Case, scan: ScanBytes, engines: dict[str, Any], plan: Plan, told: Callable[[], None]
) -> list[dict[str, Any]]:
    """Rows of the second table, with the ratio to the paper-size student in the same run."""
    rows = measure_references(scan, engines, find_model(plan.model))
    floor_row = {"what": FLOOR_NAME, "by": FLOOR_NAME, "part": "gadget"}
    try:
        floor = stream(scan, FLOOR_SLICES, target=FLOOR, threads=plan.threads, progress=told)
        warm = float(np.median(floor.latencies_ms[1:]))
        rows.append({**floor_row, "ms": warm})
    except ChpnetError as error:
        rows.append({**floor_row, "ms": None, "why": str(error)})
    paper = next((row["ms"] for row in rows if row["by"] == PAPER), None)
    return [
        {
            "coils": case.coils,
            "matrix": case.matrix,
            **row,
            "faster_than_paper_size": paper / row["ms"] if paper and row["ms"] else None,
        }
        for row in rows
    ]
