"""When a slice that is still being measured will be complete."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

MOST_SLICES = 512
"""Open slices that are followed; of more, the oldest are forgotten."""


@dataclass
class _Followed:
    """Lines of an open slice so far, and when the first and the newest came."""

    first: float
    newest: float
    lines: int = 1


class SlicePace:
    """Foresees the last line of a slice from how many the slice before had, and how fast they come.

    Times are seconds by any one clock.
    """

    def __init__(self) -> None:
        self.usual = 0
        self._open: OrderedDict[int, _Followed] = OrderedDict()

    def line(self, serial: int, now: float) -> float | None:
        """A line has come; returns when the last one is expected, None where that can't be told.

        Args:
            serial: Number of its slice.
            now: When it came.
        """
        followed = self._open.get(serial)
        if followed is None:
            self._open[serial] = _Followed(now, now)
            while len(self._open) > MOST_SLICES:
                self._open.popitem(last=False)
            return None
        followed.lines += 1
        followed.newest = now
        if not self.usual:
            return None
        gap = (followed.newest - followed.first) / (followed.lines - 1)
        return now + gap * max(self.usual - followed.lines, 0)

    def end(self, serial: int) -> None:
        """A slice is complete."""
        followed = self._open.pop(serial, None)
        if followed is not None:
            self.usual = followed.lines + 1  # the last one ended it
