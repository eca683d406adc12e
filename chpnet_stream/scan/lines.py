"""Sums of k-space lines on a grid, and where a line belongs on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from chpnet_stream.errors import InconsistentScanError
from chpnet_stream.mrd.header import Encoding
from chpnet_stream.scan.readout import ReadoutGrid, centred_ifft, crop_centre


@dataclass(frozen=True)
class Grid:
    """The grid `coils kz ky kx` of one encoding, and how lines find their place in it.

    Line ky sits in row ky + Ny // 2 - center, with center from encodingLimits, so that the k-space
    centre is at row Ny // 2 (`Encoding.first_row`); the same holds for kz.
    """

    encoding: Encoding
    readout: ReadoutGrid

    @classmethod
    def of(cls, encoding: Encoding) -> Grid:
        """The grid of an encoding of the header."""
        return cls(encoding, ReadoutGrid.of(encoding))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Sizes `kz ky kx`."""
        return self.encoding.encoded.matrix[2], self.encoding.encoded.matrix[1], self.readout.size

    def place(self, acquisition: Any) -> tuple[int, int]:
        """Row `(z, y)` of an acquisition.

        Raises:
            InconsistentScanError: the line lies outside the encoded matrix.
        """
        idx = acquisition.idx
        rows = []
        for axis, step, line in (
            (2, 2, idx.kspace_encode_step_2),
            (1, 1, idx.kspace_encode_step_1),
        ):
            n = self.encoding.encoded.matrix[axis]
            centre = self.encoding.limit(f"kspace_encoding_step_{step}").center
            if axis == 2 and n == 1:
                self._check_plane(acquisition, line)
                rows.append(0)
                continue
            row = line + self.encoding.first_row(step)
            if not 0 <= row < n:
                raise InconsistentScanError(
                    f"acquisition {acquisition.scan_counter}: kspace_encode_step_{step} = {line} "
                    f"with centre {centre} falls in row {row}, outside the encoded matrix of {n}; "
                    "check encodingLimits and encodedSpace"
                )
            rows.append(row)
        return rows[0], rows[1]

    def _check_plane(self, acquisition: Any, line: int) -> None:
        """Refuse partitions of which the limits said that there is one."""
        limit = self.encoding.limit("kspace_encoding_step_2")
        if self.encoding.is_flattened and line != limit.minimum:
            raise InconsistentScanError(
                f"acquisition {acquisition.scan_counter}: kspace_encode_step_2 = {line}, but "
                f"encodingLimits has {limit.minimum} alone; write the true limits into the header"
            )


class Lines:
    """Sum and count of lines, for one slice; duplicates are averaged when it is read.

    Args:
        coils: number of coils.
        shape: `kz ky kx`.
    """

    def __init__(self, coils: int, shape: tuple[int, int, int]) -> None:
        self.sum = np.zeros((coils, *shape), dtype=np.complex64)
        self.count = np.zeros(shape[:2], dtype=np.int32)

    def add(self, row: tuple[int, int], samples: np.ndarray) -> None:
        """Add one readout, `coils kx`, at row `(z, y)`."""
        self.sum[:, row[0], row[1]] += samples
        self.count[row] += 1

    def merge(self, other: Lines | SparseLines, only_new: bool = False, most: int = 0) -> None:
        """Add the lines of another.

        Args:
            other: lines on the same grid.
            only_new: take those that were not measured here, leave the rest.
            most: averages to keep, 0 for all. A line that has so many becomes a running mean,
                in which the new one counts for 1 / `most`.
        """
        for row, (total, count) in other.items():
            if only_new and self.count[row]:
                continue
            if most and self.count[row] + count > most:
                keep = max(most - count, 0) / max(int(self.count[row]), 1)
                self.sum[:, row[0], row[1]] *= np.float32(keep)
                self.count[row] = max(most - count, 0)
            self.sum[:, row[0], row[1]] += total
            self.count[row] += count

    def items(self) -> Iterator[tuple[tuple[int, int], tuple[np.ndarray, int]]]:
        """Measured rows, each with its sum `coils kx` and its count."""
        for z, y in np.argwhere(self.count > 0).tolist():
            yield (z, y), (self.sum[:, z, y], int(self.count[z, y]))

    def copy(self) -> Lines:
        """The same lines in memory of their own."""
        new = Lines.__new__(Lines)
        new.sum, new.count = self.sum.copy(), self.count.copy()
        return new

    @property
    def nbytes(self) -> int:
        """Memory that the sums take."""
        return self.sum.nbytes + self.count.nbytes

    def partitions(self, size: int) -> np.ndarray:
        """Averaged lines, `z coils ky kx`, after the inverse FFT along kz and a crop to `size`.

        May share memory with the sums (2-D, nothing measured twice): read it when the slice is
        over, or take a `copy` first.
        """
        mean = self.sum
        if int(self.count.max()) > 1:
            mean = mean / np.maximum(self.count, 1).astype(np.float32)[None, :, :, None]
        if mean.shape[1] > 1:
            mean = crop_centre(centred_ifft(mean, axis=1), size, axis=1)
        return np.ascontiguousarray(np.moveaxis(mean, 1, 0))

    def rows(self) -> np.ndarray:
        """Averages measured in each ky, the most over kz; int32 `ky`."""
        return self.count.max(axis=0)

    def filled(self) -> np.ndarray | None:
        """Noise in each ky of a partition, relative to a line with `rows` averages in all kz.

        The transform along kz spreads the noise of what was measured over all partitions: where
        corners or one side of kz are left out, less is in each of them.

        Returns:
            Energy, float32 `ky`, zero where nothing was measured; None in 2-D.
        """
        if len(self.count) == 1:
            return None
        there = self.count > 0
        each = there / np.maximum(self.count, 1)
        return (each.mean(axis=0) * self.rows()).astype(np.float32)


class SparseLines:
    """Sum and count of a few lines: memory grows with the lines, not with the grid.

    Attributes:
        added: readouts added so far, averages included.
    """

    def __init__(self) -> None:
        self.added = 0
        self._rows: dict[tuple[int, int], tuple[np.ndarray, int]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: tuple[int, int], samples: np.ndarray) -> None:
        """Add one readout, `coils kx`, at row `(z, y)`; the array is kept, not copied."""
        self.added += 1
        if row in self._rows:
            total, count = self._rows[row]
            self._rows[row] = (total + samples, count + 1)
        else:
            self._rows[row] = (samples, 1)

    def items(self) -> Iterator[tuple[tuple[int, int], tuple[np.ndarray, int]]]:
        """Measured rows, each with its sum `coils kx` and its count."""
        yield from self._rows.items()
