"""When a slice that is still being measured will be complete."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

MOST_SLICES = 128
"""Open slices that are followed; of more, the oldest are forgotten."""


@dataclass
class _Followed:
    """Lines of an open slice so far, when the first of them came, and when the last one will."""

    first: float
    lines: int = 1
    end: float = math.nan


class SlicePace:
    """Foresees the last line of a slice from how many the slice before had, and how fast they come.

    Times are seconds by any one clock.
    """

    def __init__(self) -> None:
        self.usual = 0
        self._open: OrderedDict[int, _Followed] = OrderedDict()

    def line(self, serial: int, now: float) -> float | None:
        """A line has come; returns when the next slice is expected to be complete.

        That may be another slice, where several are measured in turns. None where it can't be
        told: before the first slice is complete, and where lines came together, in one block.

        Args:
            serial: Number of the line's slice.
            now: When it came.
        """
        followed = self._open.get(serial)
        if followed is None:
            self._open[serial] = _Followed(now)
            while len(self._open) > MOST_SLICES:
                self._open.popitem(last=False)
        else:
            followed.lines += 1
            left = self.usual - followed.lines
            gap = (now - followed.first) / (followed.lines - 1)
            followed.end = now + gap * left if left > 0 and gap > 0 else math.nan
        due = [other.end for other in self._open.values() if other.end >= now]
        return min(due, default=None)

    def end(self, serial: int, complete: bool) -> None:
        """A slice has ended.

        Args:
            serial: Its number.
            complete: Whether all its lines came: from others nothing is learned.
        """
        followed = self._open.pop(serial, None)
        if followed is not None and complete:
            self.usual = followed.lines + 1  # the last one ended it
