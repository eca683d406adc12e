"""What is done for slices before they are complete."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import torch

from chpnet_stream.calibrate import CoilCalibration, Sensitivities
from chpnet_stream.physics.coil_lines import CoilLines
from chpnet_stream.scan.lines import Lines
from chpnet_stream.scan.slices import GrowingSlice, Slice

LINES_AT_A_TIME = 8
"""Lines are worked on in groups: one by one would take four times as long."""

MOST_SLICES = 64
"""Slices worked on at once; where more are open, the oldest are done when they are complete."""


@dataclass
class _Begun:
    """One slice."""

    lines: Lines
    maps: Future[Sensitivities] | None = None
    known: Sensitivities | None = None
    done: CoilLines | None = None
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))


class Ahead:
    """Maps and lines of the slices that are being measured.

    Args:
        calibration: Makes the maps.
        device: Where images are made.
    """

    def __init__(self, calibration: CoilCalibration, device: torch.device) -> None:
        self.calibration = calibration
        self.device = device
        self._begun: OrderedDict[int, _Begun] = OrderedDict()

    def grow(self, growing: GrowingSlice) -> None:
        """A line of a slice has come.

        Args:
            growing: The slice, as of this line.
        """
        begun = self._begun.get(growing.serial)
        if begun is None:
            begun = self._begun[growing.serial] = _Begun(growing.lines)
            while len(self._begun) > MOST_SLICES:
                self._begun.popitem(last=False)
        if growing.snapshot is not None:
            maps = self.calibration.anticipate(growing.snapshot())
            if maps is not None and maps is not begun.maps:
                begun.maps, begun.known, begun.done = maps, None, None
        if begun.maps is None or not begun.maps.done():
            return
        if begun.done is None:
            if begun.maps.exception() is not None:
                return
            begun.known = begun.maps.result()
            begun.counts = np.zeros(growing.lines.count.shape[1], np.int32)
            begun.done = self._lines(begun.known, growing.lines.sum.shape[2:])
        waiting = np.flatnonzero(growing.lines.count[0] != begun.counts)
        if len(waiting) >= LINES_AT_A_TIME:
            _put(begun.done, begun.counts, growing.lines, waiting)

    def lines(self, data: Slice, sensitivities: Sensitivities) -> CoilLines:
        """All lines of a complete slice: those that are done already, and the others.

        Args:
            data: The slice.
            sensitivities: Its maps. Lines that were done with others are done again.
        """
        begun = self._begun.pop(data.serial, None)
        if begun is not None and begun.done is not None and begun.known is sensitivities:
            waiting = np.flatnonzero(begun.lines.count[0] != begun.counts)
            if np.array_equal(begun.lines.count[0], data.sampled):
                if len(waiting):
                    _put(begun.done, begun.counts, begun.lines, waiting)
                return begun.done
        made = self._lines(sensitivities, data.kspace.shape[1:])
        rows = np.flatnonzero(data.sampled)
        if len(rows):
            made.put(rows, data.kspace[:, rows])
        return made

    def forget(self, data: Slice) -> None:
        """A slice is done."""
        self._begun.pop(data.serial, None)

    def clear(self) -> None:
        """Forget everything."""
        self._begun.clear()

    def _lines(self, sensitivities: Sensitivities, shape: tuple[int, ...]) -> CoilLines:
        pinned = self.device.type == "cuda"
        seen = (sensitivities.sense.first, sensitivities.sense.last)
        return CoilLines(sensitivities.mixing, shape[0], shape[1], seen=seen, pinned=pinned)


def _put(done: CoilLines, counts: np.ndarray, lines: Lines, rows: np.ndarray) -> None:
    """Bring some rows up to date."""
    kspace = lines.sum[:, 0, rows]
    averages = lines.count[0, rows]
    if averages.max() > 1:
        kspace /= averages.astype(np.float32)[:, None]
    done.put(rows, kspace)
    counts[rows] = averages
