"""Noise of measurements that later ones refer to, as long as it is kept."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from chpnet_stream.scan.noise import NoiseScan

MOST_MEASUREMENTS = 64
LONGEST_HOURS = 24.0


class NoiseStore:
    """Keeps the noise of the newest measurements by measurementID; several scans may share it.

    Args:
        most: Measurements kept; the one that was used longest ago goes first.
        hours: A measurement older than this is not given out: coils and cables have changed.
    """

    def __init__(self, most: int = MOST_MEASUREMENTS, hours: float = LONGEST_HOURS) -> None:
        self.most = most
        self.hours = hours
        self._kept: OrderedDict[str, tuple[float, NoiseScan]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, measurement: str, noise: NoiseScan) -> None:
        """Keep a copy of a measurement's noise; an older one of the same name is replaced."""
        with self._lock:
            self._kept[measurement] = (time.monotonic(), noise.snapshot())
            self._kept.move_to_end(measurement)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)

    def get(self, measurement: str) -> NoiseScan | None:
        """The noise of a measurement; None where it is not known, or too old."""
        with self._lock:
            found = self._kept.get(measurement)
            if found is None:
                return None
            if time.monotonic() - found[0] > 3600 * self.hours:
                del self._kept[measurement]
                return None
            self._kept.move_to_end(measurement)
            return found[1]
