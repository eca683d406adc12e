"""How many lines of a slice are missing, as far as that can be told."""

from __future__ import annotations

import numpy as np

from chpnet_stream.mrd.header import Encoding
from chpnet_stream.scan.lines import Lines, SparseLines

REGULAR = 0.95
"""A pattern is regular undersampling where at least so many of its lines are on one lattice."""


def missing_lines(image: Lines, calibration: SparseLines, encoding: Encoding, flagged: bool) -> int:
    """Lines that were to be expected and are not there.

    Expected are, in each partition: with acceleration 1, all lines; with acceleration R, every R-th
    line of the lattice that the image lines are on. Irregular patterns have nothing to be expected
    but, of a line of a slab, the partitions between its first and its last one.
    Where a flag ended the slice, the range is that of the lines measured (partial Fourier and
    elliptical scanning leave the edge out on purpose); where the scan just ended or moved on, it is
    that of encodingLimits.

    Args:
        image: image lines of the slice.
        calibration: its calibration lines, which need not be on the lattice.
        encoding: for limits and acceleration.
        flagged: a last-in flag ended the slice.
    """
    there = image.count > 0
    step = encoding.acceleration[0]
    if step > 1:
        lattice: np.ndarray = np.array(there.any(axis=0))
        for (_, y), _ in calibration.items():
            lattice[y] = False
        rows = np.flatnonzero(lattice)
        if len(rows) == 0:
            return 0
        residues = np.bincount(rows % step, minlength=step)
        if residues.max() < REGULAR * len(rows):
            return int(_skipped_partitions(there).sum())
        expected_rows = np.arange(there.shape[1]) % step == int(residues.argmax())
    else:
        expected_rows = np.ones(there.shape[1], bool)
    low, high = _rows_of(encoding, 1, there.shape[1])
    first_z, last_z = _rows_of(encoding, 2, there.shape[0])
    missing = _skipped_partitions(there)
    for z in range(first_z, last_z):
        measured = np.flatnonzero(there[z])
        if flagged and len(measured) == 0:
            continue
        begin, end = (int(measured[0]), int(measured[-1]) + 1) if flagged else (low, high)
        missing[z, begin:end] |= expected_rows[begin:end] & ~there[z, begin:end]
    return int(missing.sum())


def _skipped_partitions(there: np.ndarray) -> np.ndarray:
    """Places between the first and the last partition of a line that were left out, bool `z y`.

    The edges of a slab may be left out on purpose. What is left out within is undersampling along
    the slab, for which there is no reconstruction: it leaves aliasing in every partition.
    """
    begun = np.logical_or.accumulate(there, axis=0)
    not_over = np.logical_or.accumulate(there[::-1], axis=0)[::-1]
    return np.asarray(begun & not_over & ~there)


def seems_complete(image: Lines, encoding: Encoding) -> bool:
    """True where as many lines are there as acceleration, limits and averages promise."""
    low, high = _rows_of(encoding, 1, image.count.shape[1])
    first_z, last_z = _rows_of(encoding, 2, image.count.shape[0])
    promised = -(-(high - low) // encoding.acceleration[0])
    averages = encoding.limit("average").count
    return bool(np.all((image.count[first_z:last_z] >= averages).sum(axis=1) >= promised))


def _rows_of(encoding: Encoding, step: int, size: int) -> tuple[int, int]:
    """First and past-the-last row of the limits of kspace_encoding_step_1 or _2."""
    if size == 1:
        return 0, 1
    limit = encoding.limit(f"kspace_encoding_step_{step}")
    shift = encoding.first_row(step)
    return max(0, limit.minimum + shift), min(size, limit.maximum + 1 + shift)
