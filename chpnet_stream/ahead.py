"""What is done for slices before they are complete."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from chpnet_stream.calibrate import CoilCalibration, Sensitivities
from chpnet_stream.line_prediction import LinePrediction, predict_lines, used_lines
from chpnet_stream.physics.coil_lines import CoilLines
from chpnet_stream.scan.lines import Lines, SparseLines
from chpnet_stream.scan.slices import GrowingSlice, Slice

LINES_AT_A_TIME = 8
"""Lines are worked on in groups: one by one would take four times as long."""

MOST_SLICES = 64
"""Slices worked on at once; where more are open, the oldest are done when they are complete."""


class Prepared(NamedTuple):
    """The lines of a complete slice, and what is known of them already."""

    lines: CoilLines
    prediction: LinePrediction | None


def noise_of_lines(echo_samples: tuple[int, int], columns: int) -> float:
    """Variance of the noise in a whitened line transformed along x, whose echo is asymmetric."""
    return (echo_samples[1] - echo_samples[0]) / columns


@dataclass
class _Begun:
    """One slice."""

    lines: Lines
    maps: Future[Sensitivities] | None = None
    known: Sensitivities | None = None
    done: CoilLines | None = None
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    """Averages of the lines that are in `done`, `ky`."""
    filled: dict[int, np.ndarray] = field(default_factory=dict)
    """Which of these are calibration lines in the place of image lines, and their sums."""
    filling: int = 0
    """Calibration lines looked at so far."""
    used: np.ndarray | None = None
    prediction: LinePrediction | None = None

    def start(self, maps: Future[Sensitivities] | None, done: CoilLines | None) -> None:
        """Begin anew."""
        self.maps, self.known, self.done = maps, None, done
        self.counts = np.zeros(self.lines.count.shape[1], np.int32)
        self.filled, self.filling = {}, 0
        self.used = self.prediction = None

    def waiting(self) -> np.ndarray:
        """Image lines that are not in `done` as they are now."""
        there = self.lines.count[0]
        stale = (there != self.counts) & (there > 0)
        for row in self.filled:
            stale[row] = there[row] > 0
        return np.flatnonzero(stale)

    def whole(self, sampled: np.ndarray) -> Prepared | None:
        """All lines, now that the slice is complete; None where they are not those of `sampled`."""
        there = self.lines.count[0]
        if self.done is None or not np.array_equal(there, sampled):
            return None
        stale = there != self.counts
        for row, total in self.filled.items():
            stale[row] |= not np.array_equal(self.lines.sum[:, 0, row], total)
        if stale.any():
            self.put_image(np.flatnonzero(stale))
        return Prepared(self.done, self.prediction)

    def put(self, rows: np.ndarray, sums: np.ndarray, averages: np.ndarray) -> None:
        """Bring some lines up to date.

        Args:
            rows: Which.
            sums: `coils rows kx`.
            averages: How many each of them is the sum of.
        """
        if self.done is None:
            raise ValueError("expected maps, found none")
        if averages.max() > 1:
            sums = sums / averages.astype(np.float32)[:, None]
        self.done.put(rows, sums)
        self.counts[rows] = averages
        if self.prediction is not None and self.prediction.used[rows].any():
            self.prediction = None

    def put_image(self, rows: np.ndarray) -> None:
        """The same with image lines."""
        self.put(rows, self.lines.sum[:, 0, rows], self.lines.count[0, rows])
        for row in rows.tolist():
            self.filled.pop(row, None)

    def fill(self, calibration: SparseLines) -> None:
        """The same with calibration lines where there are no image lines so far."""
        if calibration.added == self.filling:
            return
        self.filling = calibration.added
        found = {y: line for (_, y), line in calibration.items() if not self.lines.count[0, y]}
        if found:
            sums = np.stack([total for total, _ in found.values()], axis=1)
            averages = np.array([count for _, count in found.values()], np.int32)
            self.put(np.array(list(found)), sums, averages)
            self.filled |= {row: total for row, (total, _) in found.items()}

    def predict(self, echo_samples: tuple[int, int]) -> None:
        """Predict lines from those beside them, when there seem to come no more of these."""
        used = used_lines(self.counts)
        settled = self.used is not None and np.array_equal(used, self.used)
        if self.done is not None and settled and used.any():
            noise = noise_of_lines(echo_samples, self.lines.sum.shape[-1])
            if self.prediction is None or not self.prediction.holds_for(self.counts, noise):
                self.prediction = predict_lines(self.done.data, self.counts, noise)
        self.used = used


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
                begun.start(maps, None)
        if begun.maps is None or not begun.maps.done():
            return
        if begun.done is None:
            if begun.maps.exception() is not None:
                return
            known = begun.maps.result()
            begun.start(begun.maps, self._lines(known, growing.lines.sum.shape[2:]))
            begun.known = known
        waiting = begun.waiting()
        if len(waiting) >= LINES_AT_A_TIME:
            begun.put_image(waiting)
            begun.fill(growing.filling)
            begun.predict(growing.echo_samples)

    def lines(self, data: Slice, sensitivities: Sensitivities) -> Prepared:
        """All lines of a complete slice: those that are done already, and the others.

        Args:
            data: The slice.
            sensitivities: Its maps. Lines that were done with others are done again.
        """
        begun = self._begun.pop(data.serial, None)
        if begun is not None and begun.known is sensitivities:
            prepared = begun.whole(data.sampled)
            if prepared is not None:
                return prepared
        made = self._lines(sensitivities, data.kspace.shape[1:])
        rows = np.flatnonzero(data.sampled)
        if len(rows):
            made.put(rows, data.kspace[:, rows])
        return Prepared(made, None)

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
