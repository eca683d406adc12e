"""What is known of one scan, gathered from its events: for the live view and the summaries."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from chpnet_stream.streaming.events import (
    DeadlineMissed,
    ImageReady,
    ImageSent,
    LiveScan,
    ScanEnded,
    ScanEvent,
    ScanStarted,
)
from chpnet_stream.streaming.facts import ImageFacts, facts_of
from chpnet_stream.streaming.header_view import FRAMES, expected_counts, header_view, patient_view
from chpnet_stream.streaming.latencies import Latencies

MOST_FLAGGED = 100
MOST_SEEN = 10_000
MOST_KINDS = 50
"""Methods and kinds of fallbacks that are told apart: images that come may name any."""

OTHER = "other"


class ScanRecord:
    """Counters, latencies and flags of one scan.

    Attributes:
        live: The scan as it stands.
        latencies: Last readout received to last byte sent.
        version: Grows with every event.

    Args:
        live: The scan.
        show_patient: Take over what the header says of the patient.
    """

    def __init__(self, live: LiveScan, *, show_patient: bool = False) -> None:
        self.live = live
        self.latencies = Latencies()
        self.version = 0
        self.outcome = "waiting"
        self.ended: ScanEnded | None = None
        self._show_patient = show_patient
        self._started_at = 0.0
        self._header: dict[str, Any] = {}
        self._patient: dict[str, str] | None = None
        self._expected: dict[str, int] = {}
        self._options: dict[str, Any] = {}
        self._model: dict[str, str | None] = {}
        self._images = self._beside = self._incomplete = self._marked = self._misses = 0
        self._methods: Counter[str] = Counter()
        self._fallbacks: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._residuals = (0, 0.0, 0.0)
        self._seen: dict[str, set[int]] = {name: set() for name in ("slice", *FRAMES)}
        self._flagged: list[dict[str, Any]] = []
        self._stages: dict[str, float] = {}

    def apply(self, event: ScanEvent) -> None:
        """Take note of an event of this scan."""
        self.version += 1
        if isinstance(event, ScanStarted):
            self._start(event)
        elif isinstance(event, ImageReady):
            for facts in facts_of(event):
                self._add(facts, event)
        elif isinstance(event, ImageSent):
            if not event.beside:
                self.latencies.add(event.latency_ms)
            self._stages = {k: round(v, 2) for k, v in event.stages_ms.items()}
        elif isinstance(event, DeadlineMissed):
            self._misses += 1
        elif isinstance(event, ScanEnded):
            self.ended, self.outcome = event, event.outcome
            self.latencies.settle()

    @property
    def deadline_ms(self) -> float:
        """The deadline that was set, in milliseconds; 0 for none."""
        return float(self._options.get("deadline_ms", 0.0))

    def told(self) -> dict[str, Any]:
        """Everything, fit for JSON. Times in UTC, ISO 8601."""
        live, ended = self.live, self.ended
        count, total, largest = self._residuals
        record: dict[str, Any] = {
            "id": live.scan_id,
            "name": live.name,
            "kind": live.kind,
            "outcome": self.outcome,
            "opened_at": iso(live.opened_at),
            "started_at": iso(self._started_at) if self._started_at else None,
            "ended_at": iso(ended.at) if ended else None,
            "seconds": round(ended.seconds if ended else time.monotonic() - live.began, 2),
            "error": ended.error if ended else "",
            "words": ended.words if ended else "",
            "header": self._header,
            "options": self._options,
            "model": self._model,
            "expected": self._expected,
            "seen": {name: len(values) for name, values in self._seen.items()},
            "arrived": dict(live.arrived),
            "images": self._images,
            "baseline_images": self._beside,
            "methods": dict(self._methods),
            "fallbacks": [
                {"kind": kind, "count": n, "first": self._reasons[kind]}
                for kind, n in self._fallbacks.most_common()
            ],
            "incomplete": self._incomplete,
            "marked": self._marked,
            "deadline_misses": self._misses,
            "residual": {
                "mean": round(total / count, 5) if count else None,
                "largest": round(largest, 5) if count else None,
            },
            "latency_ms": self.latencies.told(),
            "stages_ms": self._stages,
            "flagged": self._flagged,
        }
        if self._patient is not None:
            record["patient"] = self._patient
        return record

    def _start(self, event: ScanStarted) -> None:
        self.outcome = "running"
        self._started_at = self._started_at or time.time()
        self._header = header_view(event.header)
        self._expected = expected_counts(event.header)
        self._options = event.options.model_dump()
        self._options["model"] = str(self._options["model"]).replace("\\", "/").rsplit("/", 1)[-1]
        if self._show_patient:
            self._patient = patient_view(event.header)

    def _add(self, facts: ImageFacts, event: ImageReady) -> None:
        """Count one plane."""
        if event.beside:
            self._beside += 1
            return
        self._images += 1
        self._methods[_known(self._methods, facts.method or "unknown")] += 1
        self._incomplete += facts.missing_lines > 0
        self._marked += facts.mark is not None
        for name, values in self._seen.items():
            if len(values) < MOST_SEEN:
                values.add(facts.counters[name])
        if facts.model and not self._model:
            self._model = {
                "name": facts.model,
                "checksum": facts.checksum,
                "engine": facts.engine,
            }
        if facts.residual is not None:
            count, total, largest = self._residuals
            self._residuals = (
                count + 1,
                total + facts.residual,
                max(largest, facts.residual),
            )
        kind = facts.fallback_kind
        if kind is not None:
            kind = _known(self._fallbacks, kind)
            self._fallbacks[kind] += 1
            self._reasons.setdefault(kind, facts.fallback or kind)
        flagged = kind is not None or facts.mark is not None or facts.missing_lines > 0
        if flagged and len(self._flagged) < MOST_FLAGGED:
            self._flagged.append(
                {
                    "image": event.number,
                    **facts.counters,
                    "method": facts.method,
                    "fallback": facts.fallback,
                    "mark": facts.mark,
                    "missing_lines": facts.missing_lines,
                }
            )


def _known(counted: Counter[str], name: str) -> str:
    return name if name in counted or len(counted) < MOST_KINDS else OTHER


def iso(seconds: float) -> str:
    """A time as ISO 8601 in UTC, to the millisecond."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"
