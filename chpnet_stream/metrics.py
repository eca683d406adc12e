"""What a session counts and times."""

from __future__ import annotations

import itertools
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
        marked: Of these, images of data that contradict themselves (`ChpnetDataMark`).
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
    marked: int = 0
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
            "marked": self.marked,
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
    """Times the steps of one slice, and waits for nothing meanwhile.

    Work for a GPU is only ordered by the steps: events among it tell later when each was done.

    Args:
        device: Where the steps run.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._ordered: dict[str, float] = {}
        self._last = time.perf_counter()
        self._events: list[tuple[str, Any]] = []
        self._asked = device.type == "cuda"
        self._event("")

    def lap(self, name: str) -> None:
        """Note the time since the last lap under `name`."""
        self._event(name)
        now = time.perf_counter()
        self._ordered[name] = self._ordered.get(name, 0.0) + 1e3 * (now - self._last)
        self._last = now

    def _event(self, name: str) -> None:
        if not self._asked or self.device.type != "cuda":
            return
        import torch

        try:
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.device))
        except (RuntimeError, AssertionError):  # PyTorch's; the work itself will tell of it
            self._asked = False
        else:
            self._events.append((name, event))

    @property
    def milliseconds(self) -> dict[str, float]:
        """Time of every step; on a GPU this waits for the last one.

        A GPU that fails, or was left for the CPU on the way (`device` was set), is not asked: then
        it is the time in which the work was ordered.
        """
        if not self._asked or self.device.type != "cuda":
            return dict(self._ordered)
        spent: dict[str, float] = {}
        self._events[-1][1].synchronize()
        for (_, before), (name, after) in itertools.pairwise(self._events):
            spent[name] = spent.get(name, 0.0) + float(before.elapsed_time(after))
        return spent
