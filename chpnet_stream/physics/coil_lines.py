"""Measured lines on their way to an image, each as it comes: coils mixed, readout transformed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from chpnet_stream.physics.fourier import ifft
from chpnet_stream.physics.operators import ColumnSense


class CoilLines:
    """The lines of one slice behind whitening and coil compression, transformed along x.

    Lines are taken in any order and number, also again when they have changed, so that the work is
    spread over the time in which they are measured. What is left for the end is one transform
    along y. The result is that of ``A* y`` over whole k-space, but for rounding.

    Args:
        matrix: Whitening and coil compression, complex `virtual coils`, on the CPU.
        lines: Size of the matrix along y.
        columns: Size along x.
        seen: First and past-the-last column that is kept, those where there are maps; all by
            default.
        pinned: Keep the lines in page-locked memory, for a GPU to fetch.

    Attributes:
        data: Lines transformed along x, complex `coils x ky`: columns that are kept, ky in the
            order of the FFT.
        energies: Of every line in `data`, `ky` in natural order.
    """

    def __init__(
        self,
        matrix: Tensor,
        lines: int,
        columns: int,
        *,
        seen: tuple[int, int] | None = None,
        pinned: bool = False,
    ) -> None:
        self.matrix = matrix
        self._seen = slice(*(seen or (0, columns)))
        shape = (len(matrix), self._seen.stop - self._seen.start, lines)
        self.data = torch.zeros(shape, dtype=torch.complex64, pin_memory=pinned)
        self._view = self.data.numpy()
        self.energies = np.zeros(lines)
        self._whole_energies = np.zeros(lines)  # of all columns
        # Row ky is frequency ky - n // 2, and the image's origin is at n // 2, not at the edge.
        self._places = (np.arange(lines) - lines // 2) % lines
        turns = self._places * (lines // 2) % lines / lines
        self._phases = np.exp(-2j * np.pi * turns).astype(np.complex64)

    def put(self, rows: np.ndarray, kspace: np.ndarray) -> None:
        """Take some lines; they replace what was there.

        Args:
            rows: Which, indices along ky.
            kspace: Mean of their averages, complex64 `coils rows kx`.
        """
        coils, count, columns = kspace.shape
        mixed = self.matrix @ torch.from_numpy(kspace.reshape(coils, -1))
        lines = ifft(mixed.unflatten(-1, (count, columns)), dim=-1)
        energies = torch.view_as_real(lines).square().sum(dim=(0, 3)).numpy()  # rows x
        self._whole_energies[rows] = energies.sum(1)
        self.energies[rows] = energies[:, self._seen].sum(1)
        turned = lines.numpy()[:, :, self._seen] * self._phases[rows, None]
        self._view[:, :, self._places[rows]] = turned.transpose(0, 2, 1)

    def energy(self, weights: np.ndarray) -> float:
        """Weighted energy of all lines, ``|y|^2``.

        Args:
            weights: Weight of every line, `ky`.
        """
        return float((self._whole_energies * weights).sum())

    def adjoint(self, sense: ColumnSense) -> Tensor:
        """``A* y``, complex, stored as `x y`, on the device of `sense`."""
        data = self.data.to(sense.maps.device, non_blocking=True)
        return sense.adjoint_columns(data)
