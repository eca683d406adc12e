"""Calibration lines: which slice gets which, in every calibration mode of the standard.

* embedded, or not stated: the calibration lines of the slice itself; a slice without any (only the
  first repetition has them) gets those of the last one at its position.
* separate, external, other: calibration lines (flag 20) make no image; they stay for all later
  repetitions, contrasts, phases and sets at their position.
* interleaved: each repetition measures other lines; their running mean is the calibration. The
  first repetitions wait until the centre is covered, for at most as many as the acceleration.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from chpnet_stream.mrd.header import Encoding
from chpnet_stream.scan.lines import Lines, SparseLines

RUNNING_MEAN = 32
"""Repetitions that the mean of interleaved calibration looks back on."""

ENOUGH_LINES = 24
"""Neighbouring lines around the centre with which interleaved calibration may begin."""

FEWEST_LINES = 8
"""Neighbouring lines around the centre without which there are no coil maps."""

Key = tuple[int, int, int, int, int]
"""Slice, contrast, phase, repetition, set."""


@dataclass
class Calibration:
    """Calibration lines of one position; `version` changes whenever the lines do."""

    lines: Lines | SparseLines = field(default_factory=SparseLines)
    version: int = 0

    def on_grid(self, coils: int, shape: tuple[int, int, int]) -> Lines:
        """The lines on the full grid `coils kz ky kx`, in memory of their own."""
        if isinstance(self.lines, Lines):
            return self.lines.copy()
        grid = Lines(coils, shape)
        grid.merge(self.lines)
        return grid


class CalibrationStore:
    """Keeps calibration lines from slice to slice.

    Args:
        encoding: the encoding of the image data.
        mode: calibration mode; None takes what the header says.
    """

    def __init__(self, encoding: Encoding, mode: str | None = None) -> None:
        self.mode = mode or encoding.calibration_mode or "embedded"
        self.encoding = encoding
        self.maps_only = self.mode in ("separate", "external", "other")
        self.interleaved = self.mode == "interleaved"
        self._by_slice: dict[int, Calibration] = {}
        self._running: dict[tuple[int, ...], Calibration] = {}
        self._versions = 0

    def add_separate(self, position: int, row: tuple[int, int], samples: np.ndarray) -> None:
        """A calibration line that belongs to no image, at slice `position`."""
        calibration = self._by_slice.setdefault(position, Calibration())
        if not isinstance(calibration.lines, SparseLines):
            raise TypeError("separate calibration is kept line by line")
        calibration.lines.add(row, samples)
        calibration.version = self._next()

    def of_slice(self, key: Key, own: SparseLines) -> Calibration | None:
        """Calibration for a slice that is complete, given its own calibration lines."""
        if self.maps_only:
            # Lines that are image data too (21) serve where no separate ones were measured.
            return self._by_slice.get(key[0]) or (self._new(own) if len(own) else None)
        if len(own):
            self._by_slice[key[0]] = self._new(own)
        return self._by_slice.get(key[0])

    def peek(self, key: Key, own: SparseLines) -> Calibration | None:
        """What `of_slice` would give, and nothing kept."""
        kept = self._by_slice.get(key[0])
        if self.maps_only:
            return kept or (Calibration(own) if len(own) else None)
        return Calibration(own) if len(own) else kept

    def keep(self, key: Key, lines: SparseLines) -> None:
        """Calibration lines that turned out to have no image data beside them."""
        self._by_slice[key[0]] = self._new(lines)

    def interleave(self, key: Key, lines: Lines) -> Calibration:
        """Add the lines of a complete slice to the running mean of its position."""
        group = self.group(key)
        calibration = self._running.get(group)
        if calibration is None:
            calibration = self._running[group] = Calibration(
                Lines(lines.sum.shape[0], (lines.sum.shape[1], *lines.sum.shape[2:]))
            )
        if isinstance(calibration.lines, Lines):
            calibration.lines.merge(lines, most=RUNNING_MEAN)
        calibration.version = self._next()
        return calibration

    def running(self, group: tuple[int, ...]) -> Calibration | None:
        """The running mean of a group, as it is now."""
        return self._running.get(group)

    def group(self, key: Key) -> tuple[int, ...]:
        """Slices that share interleaved calibration: all but the dimension it is spread over."""
        position, contrast, phase, _, set_ = key
        dimension = self.encoding.interleaving_dimension
        return (
            position,
            -1 if dimension == "contrast" else contrast,
            -1 if dimension == "phase" else phase,
            set_,
        )

    def is_enough(self, calibration: Calibration) -> bool:
        """True where the lines around the k-space centre are there without a gap."""
        if not isinstance(calibration.lines, Lines):
            return True
        there = calibration.lines.rows() > 0
        centre = len(there) // 2
        if not there[centre]:
            return False
        gaps = np.flatnonzero(~there)
        below, above = gaps[gaps < centre], gaps[gaps > centre]
        first = int(below[-1]) + 1 if len(below) else 0
        last = int(above[0]) if len(above) else len(there)
        return last - first >= min(ENOUGH_LINES, len(there))

    def _new(self, lines: SparseLines) -> Calibration:
        return Calibration(lines, self._next())

    def _next(self) -> int:
        self._versions += 1
        return self._versions
