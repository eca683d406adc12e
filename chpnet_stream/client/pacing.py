"""When to send what, so that a scan runs as it was measured."""

from __future__ import annotations

import time
from collections.abc import Callable

TICK_MS = 2.5
"""Unit of time stamps in MRD v1 files of the usual converters."""

LONGEST_GAP_S = 30.0
"""A longer pause between two time stamps is no part of the scan: it is left out."""


class Pacer:
    """Turns time stamps into waiting times.

    A stamp of 0 says nothing: whatever has it goes at once. Stamps that go backwards (a noise scan
    with a clock of its own) or jump further than `LONGEST_GAP_S` begin a new count.

    Attributes:
        gaps: Jumps that were left out.

    Args:
        factor: How many times faster than it was measured; 1 is real time.
        tick_ms: Unit of the time stamps.
        clock: Tells the time, in seconds.
    """

    def __init__(
        self,
        factor: float = 1.0,
        tick_ms: float = TICK_MS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gaps = 0
        self._seconds = 1e-3 * tick_ms / factor
        self._longest = round(1e3 * LONGEST_GAP_S / tick_ms)
        self._clock = clock
        self._first = 0
        self._last = 0
        self._began = 0.0

    def wait_for(self, stamp: int) -> float:
        """Seconds to wait before something with this time stamp is sent; 0 if it is due."""
        if stamp == 0:
            return 0.0
        now = self._clock()
        if not self._last or not 0 <= stamp - self._last <= self._longest:
            self.gaps += bool(self._last)
            self._first, self._began = stamp, now
        self._last = stamp
        return max(0.0, self._began + self._seconds * (stamp - self._first) - now)
