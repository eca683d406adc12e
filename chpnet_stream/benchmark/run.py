"""Does what a plan says, and gathers the results."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from chpnet_stream.benchmark.estimate import (
    BURST,
    FLOOR_SLICES,
    Course,
    Step,
    references_s,
    simulated_s,
    streamed_s,
)
from chpnet_stream.benchmark.kept import Kept
from chpnet_stream.benchmark.peer import FLOOR, Streamed, stream
from chpnet_stream.benchmark.plan import Case, Plan
from chpnet_stream.benchmark.ratios import FLOOR_NAME
from chpnet_stream.benchmark.references import PAPER, measure_references
from chpnet_stream.benchmark.scan_bytes import ScanBytes
from chpnet_stream.engines.choice import make_engine
from chpnet_stream.engines.engine import Engine
from chpnet_stream.engines.stand_in import reason_of
from chpnet_stream.errors import (
    ChpnetError,
    ConfigurationError,
    EngineError,
    ModelError,
    PeerError,
    PeerGoneError,
)
from chpnet_stream.network.weights import find_model

NETWORK_STAGES = ("network",)
NETWORK_METHOD = "chpnet"
BEGIN = "beginning"


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
        model: Its name and checksum.
    """

    plan: Plan
    streamed: list[dict[str, Any]] = field(default_factory=list)
    references: list[dict[str, Any]] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    model: str = ""


def run_plan(
    plan: Plan, progress: Callable[[Step], None] = lambda _: None, kept: Kept | None = None
) -> Results:
    """Measure.

    Args:
        plan: What.
        progress: Told how far it is: once before the first slice, when the engines are there, and
            with every image.
        kept: Where each part is kept as soon as it is measured, and parts that are there already
            are taken from.

    A size in which the gadget of an engine fails is left out, and told; the others are measured.

    Raises:
        ConfigurationError: None of the engines can be used here.
        PeerError, PeerGoneError, EngineError: Every gadget failed.
    """
    if plan.threads:
        torch.set_num_threads(plan.threads)
    card = find_model(plan.model).card
    results = Results(plan, model=f"{card.name} {card.checksum}")
    engines = _loaded(plan, results.unusable)
    kept = kept or Kept(plan)
    course = Course(plan, list(engines), kept, progress)
    course.tell(BEGIN)
    failure: ChpnetError | None = None
    for case in plan.cases:
        scan = _Simulated(case, plan)
        for name, engine in engines.items():
            what = f"{scan.size}, {engine.name}"
            row = kept.streamed(case, name)
            if row is not None:
                course.skip(f"{what}: measured before", course.each)
            else:
                try:
                    row = _streamed(plan, scan, name, engine.name, course)
                except (PeerError, PeerGoneError, EngineError) as error:
                    failure = error
                    results.failed[f"{scan.size}, {name}"] = str(error)
                    continue
                kept.keep_streamed(case, name, row)
            results.streamed.append(row)
        if plan.references:
            results.references += _compared(plan, scan, engines, kept, course)
    course.end()
    if failure is not None and not results.streamed:
        raise failure
    return results


class _Simulated:
    """The slices of a size, simulated when they are needed."""

    def __init__(self, case: Case, plan: Plan) -> None:
        self.case = case
        self.size = case.words
        self._maps = plan.maps
        self._bytes: ScanBytes | None = None

    @property
    def needs_s(self) -> float:
        """Seconds until they are there."""
        return 0.0 if self._bytes else simulated_s(self.case)

    @property
    def bytes(self) -> ScanBytes:
        """As they are sent."""
        if self._bytes is None:
            self._bytes = ScanBytes(self.case, self._maps)
        return self._bytes


@dataclass(frozen=True)
class _Loaded:
    """An engine, and its name before anything else took over."""

    engine: Engine
    name: str


def _loaded(plan: Plan, unusable: dict[str, str]) -> dict[str, _Loaded]:
    """The engines of a plan; why one can't be used here is noted.

    Raises:
        ConfigurationError: None of them can.
    """
    model = find_model(plan.model)
    engines: dict[str, _Loaded] = {}
    for name in plan.engines:
        kind, _, precision = name.partition(":")
        try:
            made = make_engine(kind, model, precision=precision or "auto")
        except (EngineError, ModelError, ConfigurationError) as error:
            unusable[name] = str(error)
            continue
        why = reason_of(made)
        if why:
            unusable[name] = f"{why.removeprefix(f'{kind}: ')}; found {made.name}"
        else:
            engines[name] = _Loaded(made, made.name)
    if not engines:
        reasons = "; ".join(f"{name}: {why}" for name, why in unusable.items())
        raise ConfigurationError(
            f"none of the engines {', '.join(plan.engines)} can be used here ({reasons}); choose "
            "others by --engine (see `chpnet-stream doctor`)"
        )
    return engines


def _streamed(
    plan: Plan, scan: _Simulated, asked: str, engine: str, course: Course
) -> dict[str, Any]:
    """A row of the first table.

    Raises:
        PeerError, PeerGoneError: The gadget failed, or its images are by another engine.
        EngineError: None of its images is the network's, and no deadline was set that may be why.
    """
    case, what = scan.case, f"{scan.size}, {engine}"
    course.begin(course.each, streamed_s(plan, case, asked) + scan.needs_s)
    seen = stream(
        scan.bytes,
        plan.slices,
        properties=plan.properties_of(case, asked),
        engine=engine,
        rate=plan.rate_of(case),
        threads=plan.threads,
        burst=BURST,
        progress=lambda: course.image(what),
    )
    if NETWORK_METHOD not in seen.methods and not plan.set_deadline:
        raise EngineError(
            f"expected images by the network, found {', '.join(seen.methods)} only: {seen.fallback}"
        )
    return {"asked": asked, **_row(case, engine, seen, plan)}


def _compared(
    plan: Plan, scan: _Simulated, engines: dict[str, _Loaded], kept: Kept, course: Course
) -> list[dict[str, Any]]:
    """Rows of the second table."""
    what = f"{scan.size}, FFT"
    rows = kept.references(scan.case)
    if rows is not None:
        course.skip(f"{what}: measured before", course.floor)
        return rows
    course.begin(course.floor, references_s(scan.case, list(engines)) + scan.needs_s)
    loaded = {name: found.engine for name, found in engines.items()}
    rows = _references(scan.case, scan.bytes, loaded, plan, lambda: course.image(what))
    kept.keep_references(scan.case, rows)
    return rows


def _row(case: Case, engine: str, seen: Streamed, plan: Plan) -> dict[str, Any]:
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
        "rate_per_s": plan.rate_of(case),
        "late_ms": plan.late_of(case),
        "late": int((warm > plan.late_of(case)).sum()),
        "per_second": seen.burst / seen.burst_s if seen.burst_s else None,
        "peak_mb": seen.report.get("peak_mb"),
        "device_mb": seen.report.get("device_mb"),
        "stages_ms": stages,
        "network_ms": network,
        "rest_percent": 100 * (1 - network / sum(stages.values())) if network else None,
        "methods": seen.methods,
        "engines": seen.engines,
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
