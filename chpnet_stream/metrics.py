"""What a session counts and times."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

KEPT = 100_000
"""Latencies kept for the percentiles: the newest; memory stays bounded on endless scans."""


@dataclass
class SessionMetrics:
    """Counters and latencies of one scan.

    Attributes:
        images: Images made.
        incomplete: Of these, images of slices with missing lines.
        fallbacks: Images that are not of the method asked for, by kind of reason.
        methods: Images by the method that made them.
        latencies_ms: Last readout of a slice received to its image ready, in milliseconds.
        sent_ms: Last readout received to the last byte of the image sent, in milliseconds; empty
            where images go to no peer.
        deadline_misses: Images sent later than the deadline that was set.
        stages_ms: Time of every step, summed over the slices, in milliseconds.
    """

    images: int = 0
    incomplete: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    sent_ms: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    deadline_misses: int = 0
    stages_ms: Counter[str] = field(default_factory=Counter)

    def latency(self) -> dict[str, float]:
        """p50, p95, p99, max and the first ("cold") latency in milliseconds; empty if none.

        Up to the last byte sent where images are sent, else up to the image.
        """
        return percentiles((self.sent_ms or self.latencies_ms).copy())  # another thread may add

    def counted(self) -> dict[str, Any]:
        """Counters and latencies as plain values, for logs."""
        return {
            "images": self.images,
            "methods": dict(self.methods),
            "fallbacks": dict(self.fallbacks),
            "incomplete": self.incomplete,
            "deadline_misses": self.deadline_misses,
            "latency_ms": {name: round(ms, 2) for name, ms in self.latency().items()},
        }


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p95, p99, the largest and the first of some values; empty if there are none."""
    found = np.asarray(list(values))
    if not found.size:
        return {}
    p50, p95, p99 = np.percentile(found, [50, 95, 99])
    return {
        "p50": float(p50),
        "p95": float(p95),
        "p99": float(p99),
        "max": float(found.max()),
        "first": float(found[0]),
    }


class StageClock:
    """Times the steps of one slice; waits for the GPU at every lap.

    Args:
        device: Where the steps run.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.milliseconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Note the time since the last lap under `name`."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.milliseconds[name] = self.milliseconds.get(name, 0.0) + 1e3 * (now - self._last)
        self._last = now
