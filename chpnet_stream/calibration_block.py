"""The samples of a slice that its coil maps are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chpnet_stream.errors import MissingCalibrationError
from chpnet_stream.scan.calibration import FEWEST_LINES
from chpnet_stream.scan.readout import centred_ifft
from chpnet_stream.scan.slices import Slice

MOST_LINES = 32

AT_NOISE_LEVEL = (0.25, 2.0)
"""Mean energy of a change, in units of what noise alone makes of it, that may be noise.

The noise level is known to some ten per cent, and may be wrong altogether: what is far below it
says so, and nothing is concluded.
"""

LEAST_COMMON = 0.75
"""Share of the lines, and of the samples along them, that two blocks must have both measured.

Where the lines of every repetition are others, some of them lie beside the calibration lines.
"""

CENTRE = 4
"""Half width, in samples, of the centre of k-space, where what is smooth in the image shows."""


@dataclass(frozen=True)
class CalibrationBlock:
    """Measured samples around the k-space centre, without a gap.

    Attributes:
        samples: Complex64 `coils ky kx`, in memory of their own.
        averages: Averages in each of its lines, `ky`.
        shape: Matrix `y x` of the slice.
        origin: Place of its first sample in the slice, `ky kx`.
    """

    samples: np.ndarray
    averages: np.ndarray
    shape: tuple[int, int]
    origin: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, data: Slice) -> CalibrationBlock:
        """The calibration samples of a slice.

        Raises:
            MissingCalibrationError: If it has too few lines.
        """
        lines, columns = data.kspace.shape[1:]
        source, counts, rows = _calibration_lines(data)
        if len(rows) < FEWEST_LINES:
            raise MissingCalibrationError(
                f"slice {data.counters['slice']}: found {len(rows)} measured lines side by side at "
                f"the k-space centre of {lines}, expected at least {FEWEST_LINES} to estimate coil "
                "sensitivities; measure calibration lines, or use --method rss"
            )
        first, last = data.echo_samples
        half = max(12, len(rows) // 2)
        centre = columns // 2
        samples = slice(max(centre - half, first), min(centre + half, last))
        block = source[:, rows.start : rows.stop, samples].copy()
        averages = counts[rows.start : rows.stop].astype(float)
        return cls(block, averages, (lines, columns), (rows.start, samples.start))

    def equals(self, other: CalibrationBlock) -> bool:
        """Whether maps of both would be the same."""
        return self._places == other._places and np.array_equal(self.samples, other.samples)

    @property
    def _places(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return self.shape, self.origin

    def _within(self, first: tuple[int, int], last: tuple[int, int]) -> CalibrationBlock:
        """The samples of a range of the slice that lies within the block."""
        y, x = (slice(a - o, b - o) for a, b, o in zip(first, last, self.origin, strict=True))
        return CalibrationBlock(self.samples[:, y, x], self.averages[y], self.shape, first)

    def _common(self, other: CalibrationBlock) -> tuple[CalibrationBlock, CalibrationBlock] | None:
        """What both blocks have measured; None where that is too little of one of them."""
        if self.shape != other.shape or len(self.samples) != len(other.samples):
            return None
        ends = [np.add(b.origin, b.samples.shape[1:]) for b in (self, other)]
        first = int(max(self.origin[0], other.origin[0])), int(max(self.origin[1], other.origin[1]))
        last = int(min(ends[0][0], ends[1][0])), int(min(ends[0][1], ends[1][1]))
        most = np.maximum(self.samples.shape[1:], other.samples.shape[1:])
        if np.any(np.subtract(last, first) < LEAST_COMMON * most):
            return None
        return self._within(first, last), other._within(first, last)

    def is_noise_from(self, other: CalibrationBlock, whitening: np.ndarray) -> bool:
        """Whether this differs from another by no more than noise, and a complex factor.

        White noise has the same energy everywhere, in k-space and in the image, and few outliers.
        What has moved stands out in the image, what is smooth (a coil, a movement of everything) in
        the centre of k-space.

        Args:
            other: Samples of the same position.
            whitening: Matrix `coils coils` behind which noise has unit variance.
        """
        common = self._common(other)
        if common is None:
            return False
        new, old = (np.tensordot(whitening, b.samples, 1) for b in common)
        energy = np.vdot(old, old).real
        if energy == 0:
            return False
        factor = np.vdot(old, new) / energy
        spread = np.sqrt(1 / common[0].averages + abs(factor) ** 2 / common[1].averages)
        change = (new - factor * old) / spread[:, None]
        mean = np.vdot(change, change).real / change.size
        if not AT_NOISE_LEVEL[0] <= mean <= AT_NOISE_LEVEL[1]:
            return False
        image = centred_ifft(centred_ifft(change, axis=-1), axis=-2)
        coils, lines, columns = change.shape
        most = mean * _highest(coils, lines * columns)
        if any((np.abs(x) ** 2).sum(axis=0).max() > most for x in (change, image)):
            return False
        middle = change[:, _around(lines), _around(columns)]
        return bool(np.vdot(middle, middle).real <= mean * _highest(middle.size, 1))


def _around(size: int) -> slice:
    return slice(max(size // 2 - CENTRE, 0), size // 2 + CENTRE)


def _highest(summed: int, places: int) -> float:
    """Energy of white noise that the highest of some places hardly exceeds.

    The energy of a place, summed over complex samples of unit variance (the coils of a pixel), is
    Gamma distributed; its tail is bounded after Laurent and Massart, Ann Stat 2000;28:1302, for a
    chance of one in a thousand in all places.
    """
    rarity = np.log(1e3 * places)
    return float(summed + np.sqrt(2 * summed * rarity) + rarity)


def _calibration_lines(data: Slice) -> tuple[np.ndarray, np.ndarray, range]:
    """K-space `coils ky kx` to calibrate from, averages, and its measured lines at the centre."""
    own = central_run(data.sampled > 0, MOST_LINES)
    if data.calibration is None:
        return data.kspace, data.sampled, own
    rows = central_run(data.calibrated, MOST_LINES)
    if len(rows) < FEWEST_LINES <= len(own):
        return data.kspace, data.sampled, own
    # Averages of the calibration lines are not told: those of the image are a good guess.
    return data.calibration, np.maximum(data.sampled, 1), rows


def central_run(measured: np.ndarray, most: int) -> range:
    """The measured lines around the centre without a gap, as many on both sides if possible.

    Args:
        measured: Bool `ky`.
        most: Largest number of lines returned.
    """
    centre = len(measured) // 2
    if not measured[centre]:
        return range(centre, centre)
    gaps = np.flatnonzero(~measured)
    low = int(gaps[gaps < centre].max(initial=-1)) + 1
    high = int(gaps[gaps > centre].min(initial=len(measured)))
    return range(max(low, centre - most // 2), min(high, centre + most // 2))
