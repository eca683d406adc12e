"""One readout: turned round, cut, placed on the grid, its oversampling removed.

All arrays are NumPy complex64 with samples last (`coils samples`, or any batch in front).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chpnet_stream.errors import InconsistentScanError
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.header import Encoding

OVERHANG = 64
"""Of n samples, n / 64 may lie beyond the matrix (at least one): a centre is told by one off, or by
the echo's true place. They are the highest frequencies of one side, and left out.
"""


def centred_ifft(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """Orthonormal inverse FFT along one axis, both centres at index n // 2 (k-space -> image)."""
    shifted = np.fft.ifft(np.fft.ifftshift(x, axes=axis), axis=axis, norm="ortho")
    return np.fft.fftshift(shifted, axes=axis).astype(np.complex64, copy=False)


def centred_fft(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """Orthonormal FFT along one axis, both centres at index n // 2 (image -> k-space)."""
    shifted = np.fft.fft(np.fft.ifftshift(x, axes=axis), axis=axis, norm="ortho")
    return np.fft.fftshift(shifted, axes=axis).astype(np.complex64, copy=False)


def crop_centre(x: np.ndarray, size: int, axis: int = -1) -> np.ndarray:
    """The `size` entries around the centre (index n // 2 goes to index size // 2).

    Raises:
        ValueError: `size` is larger than the axis.
    """
    n = x.shape[axis]
    if size > n:
        raise ValueError(f"can't crop an axis of {n} to {size}")
    start = n // 2 - size // 2
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, start + size)
    return x[tuple(index)]


def remove_oversampling(kspace: np.ndarray, size: int, axis: int = -1) -> np.ndarray:
    """Cut the field of view along one k-space axis to its central `size` pixels.

    Inverse FFT, crop, FFT, all orthonormal: the noise level of the samples stays what it was.

    Args:
        kspace: complex k-space, the axis with its centre at n // 2.
        size: pixels to keep; nothing is done where the axis has that size already.
        axis: the axis to cut.
    """
    if kspace.shape[axis] == size:
        return kspace
    return centred_fft(crop_centre(centred_ifft(kspace, axis), size, axis), axis)


@dataclass(frozen=True)
class ReadoutGrid:
    """Places the samples of readouts on the kx grid of one encoding.

    Attributes:
        encoded: samples of a full readout, oversampling included (encodedSpace matrix x).
        size: length of the kx axis after oversampling removal.
    """

    encoded: int
    size: int

    @classmethod
    def of(cls, encoding: Encoding) -> ReadoutGrid:
        """The grid of an encoding of the header."""
        return cls(encoding.encoded.matrix[0], encoding.cropped(0))

    def place(self, acquisition: Any) -> tuple[np.ndarray, tuple[int, int]]:
        """Samples of one acquisition on the kx grid.

        In this order: samples of discard_pre and discard_post are dropped, a reversed readout
        (flag 22) is turned round, its centre (center_sample, counted in the turned order) is put at
        index n // 2, what was not measured is zero (asymmetric echo), the oversampling is removed.
        Readouts that came already cropped (as many samples as the cropped grid, centre in their
        middle) are taken as they are. A few samples beyond the matrix (`OVERHANG`) are left out.

        Args:
            acquisition: an `ismrmrd.Acquisition`.

        Returns:
            The samples, complex64 `coils kx`, and the first and past-the-last kx index measured.

        Raises:
            InconsistentScanError: samples would lie outside the encoded matrix, or all discarded.
        """
        samples = acquisition.number_of_samples
        centre = acquisition.center_sample
        data = acquisition.data
        start, stop = acquisition.discard_pre, samples - acquisition.discard_post
        reverse = bool(acquisition.flags & flags.REVERSE)
        if reverse:
            data = data[:, ::-1]
            start, stop = samples - stop, samples - start
        if start >= stop:
            raise InconsistentScanError(
                f"{_where(acquisition)} discards {acquisition.discard_pre} + "
                f"{acquisition.discard_post} of {samples} samples, expected some to be left"
            )
        n = self.encoded
        if samples == self.size and centre == samples // 2 and samples < n:
            n = self.size
        elif not 0 < centre < samples and samples in (n, self.size):
            # A whole readout can't begin at the k-space centre, or miss it: the field was never
            # filled in, or left alone when the oversampling was removed.
            n, centre = samples, samples // 2
        elif reverse and samples == n and centre == samples - 1 - samples // 2:
            centre = samples // 2  # it was counted in the order of acquisition
        offset = n // 2 - centre
        first, last = start + offset, stop + offset
        spare = max(1, n // OVERHANG)
        if first < -spare or last > n + spare or last <= 0 or first >= n:
            raise InconsistentScanError(
                f"{_where(acquisition)} has {samples} samples with its centre at {centre}, which "
                f"puts them at {first} to {last - 1} of an encoded matrix of {n}; check "
                "center_sample and encodedSpace"
            )
        start, stop = start + max(0, -first), stop - max(0, last - n)
        first, last = max(0, first), min(n, last)
        if first == 0 and last == n and samples == n:
            full = np.ascontiguousarray(data, dtype=np.complex64)
        else:
            full = np.zeros((data.shape[0], n), dtype=np.complex64)
            full[:, first:last] = data[:, start:stop]
        return remove_oversampling(full, self.size), self._measured(first, last, n)

    def _measured(self, first: int, last: int, n: int) -> tuple[int, int]:
        """Range on the cropped kx grid, whose samples lie n / size times as far apart."""
        step = n / self.size
        low = int(np.ceil((first - n // 2) / step - 1e-9)) + self.size // 2
        high = int(np.floor((last - 1 - n // 2) / step + 1e-9)) + self.size // 2 + 1
        return max(low, 0), min(high, self.size)


def _where(acquisition: Any) -> str:
    idx = acquisition.idx
    return (
        f"acquisition {acquisition.scan_counter} (slice {idx.slice}, line "
        f"{idx.kspace_encode_step_1})"
    )
