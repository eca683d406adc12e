"""Latencies of one scan: percentiles and a histogram, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from chpnet_stream.metrics import percentiles

EDGES_MS = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 2000, 5000, 10000)
"""Upper edges of the histogram's bins in ms; one more bin is open."""

MOST = 100_000


class Latencies:
    """Keeps the newest latencies for the percentiles, and counts all in the histogram.

    Args:
        most: Latencies kept.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.count = 0
        self.first: float | None = None
        self.max = 0.0
        self.histogram = [0] * (len(EDGES_MS) + 1)
        self._values = np.empty(256, np.float32)
        self._told: dict[str, Any] = {}

    def add(self, milliseconds: float) -> None:
        """Take one latency."""
        if self.count >= self._values.size < self.most:
            size = min(2 * self._values.size, self.most)
            self._values = np.concatenate(
                [self._values, np.empty(size - self._values.size, np.float32)]
            )
        self._values[self.count % self._values.size] = milliseconds
        self.count += 1
        self.max = max(self.max, milliseconds)
        if self.first is None:
            self.first = milliseconds
        self.histogram[int(np.searchsorted(EDGES_MS, milliseconds, side="left"))] += 1

    def told(self) -> dict[str, Any]:
        """count, first, p50, p95, p99, max and histogram, in milliseconds; percentiles once."""
        if self.count == 0:
            return {"count": 0}
        if self._told.get("count") != self.count:
            values = self._values[: min(self.count, self._values.size)]
            known = percentiles(values) | {"first": self.first, "max": self.max}
            self._told = {
                "count": self.count,
                **{name: round(float(value or 0.0), 2) for name, value in known.items()},
                "histogram": {"edges_ms": list(EDGES_MS), "counts": list(self.histogram)},
            }
        return self._told

    def settle(self) -> None:
        """Let go of the values; what was told stays."""
        self.told()
        self._values = np.empty(0, np.float32)
