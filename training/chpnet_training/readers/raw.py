"""What raw readers share: complete lines, noise of unit variance, few virtual coils."""

from __future__ import annotations

import numpy as np

VIRTUAL_COILS = 8
CENTRE = 32
"""Lines and samples around the centre that choose the virtual coils."""

LEAST_LINES = 0.75
"""Least share of a matrix that must be measured around its centre."""


def measured_block(measured: np.ndarray) -> slice | None:
    """Returns the lines around the centre without a gap, as many on both sides.

    Scans of a lower phase resolution leave the outer lines of their matrix empty (fastMRI stores
    them as zeros): without those they are a complete scan of a smaller matrix, whose centre is
    again at n // 2.

    Args:
        measured: bool `ky`.

    Returns:
        The lines to keep; None where less than `LEAST_LINES` of the matrix is left.
    """
    lines = len(measured)
    centre = lines // 2
    if not measured[centre]:
        return None
    gaps = np.flatnonzero(~measured)
    if len(gaps) == 0:
        return slice(0, lines)
    below = centre - 1 - int(gaps[gaps < centre].max(initial=-1))
    above = int(gaps[gaps > centre].min(initial=lines)) - centre
    half = min(below, above)
    return slice(centre - half, centre + half) if 2 * half >= LEAST_LINES * lines else None


def virtual_coils(kspace: np.ndarray, limit: int = VIRTUAL_COILS) -> np.ndarray:
    """Returns k-space `virtual ky kx` of the strongest virtual coils, complex64.

    They are chosen by the samples around the centre; white noise stays white
    (`chpnet_stream.physics.coils.compression_matrix`).

    Args:
        kspace: complex `coils ky kx`, whitened.
        limit: most virtual coils.
    """
    import torch

    from chpnet_stream.physics.coils import compression_matrix
    from chpnet_stream.physics.sampling import calibration_range

    data = torch.from_numpy(np.ascontiguousarray(kspace, dtype=np.complex64))
    rows, columns = (calibration_range(n, min(n, CENTRE)) for n in data.shape[1:])
    centre = data[:, rows.start : rows.stop, columns.start : columns.stop]
    matrix = compression_matrix(centre, limit=limit)
    return torch.einsum("vc,cyx->vyx", matrix, data).numpy()
