"""Partial Fourier and asymmetric echoes: the missing side of k-space from the image's phase."""

from __future__ import annotations

import torch
from torch import Tensor

from chpnet_stream.physics.fourier import fft, ifft


def pocs(image: Tensor, acquired: range, *, axis: int = -2, iterations: int = 8) -> Tensor:
    """Fill in the missing side of k-space by projection onto convex sets.

    Haacke, Lindskog, Lin, J Magn Reson 1991;92:126: in turn, the image takes the phase of the
    low-resolution image that the symmetric centre gives, and its k-space takes the measured
    samples, which are kept exactly. Call it once for each asymmetric axis.

    Args:
        image: Complex `... y x`, coils combined; what its k-space has outside `acquired` is
            not used.
        acquired: Samples along the axis that were measured, with the centre ``n // 2``
            and at least one more on each side of it.
        axis: -2 for missing phase-encode lines, -1 for an asymmetric echo.
        iterations: Number of projections onto the phase.

    Returns:
        Complex `... y x`; `image` itself where all samples were measured.

    Raises:
        ValueError: If `acquired` lies outside the matrix or has too little beyond the centre.
    """
    if len(acquired) == image.shape[axis]:
        return image
    reach = _symmetric_reach(acquired, image.shape[axis])
    measured = _along(_indicator(acquired, image.shape[axis], image), axis)
    data = fft(image, axis) * measured
    direction = _low_resolution_direction(data, reach, axis)
    estimate = ifft(data, axis)
    for _ in range(iterations):
        estimate = estimate.abs() * direction
        kspace = fft(estimate, axis)
        estimate = ifft(data + (1 - measured) * kspace, axis)
    return estimate


def homodyne(image: Tensor, acquired: range, *, axis: int = -2) -> Tensor:
    """Count the measured side twice, and keep what has the phase of the low-resolution image.

    Noll, Nishimura, Macovski, IEEE Trans Med Imaging 1991;10:154, with a linear ramp over
    the symmetric centre. Faster than `pocs` and without iterations, but measured samples change.

    Args:
        image: Complex `... y x`, coils combined; what its k-space has outside `acquired` is
            not used.
        acquired: Samples along the axis that were measured, as for `pocs`.
        axis: -2 for missing phase-encode lines, -1 for an asymmetric echo.

    Returns:
        Complex `... y x` with the low-resolution phase; `image` itself where all samples were
        measured.

    Raises:
        ValueError: As `pocs`.
    """
    samples = image.shape[axis]
    if len(acquired) == samples:
        return image
    reach = _symmetric_reach(acquired, samples)
    data = fft(image, axis) * _along(_indicator(acquired, samples, image), axis)
    direction = _low_resolution_direction(data, reach, axis)
    distance = _distance(samples, image)
    early_missing = samples // 2 - acquired.start < acquired.stop - 1 - samples // 2
    ramp = (distance if early_missing else -distance) / (reach + 0.5)
    weights = _along(1 + ramp.clamp(-1, 1), axis)
    real = (ifft(weights * data, axis) * direction.conj()).real
    return real * direction


def _symmetric_reach(acquired: range, samples: int) -> int:
    """Number of samples that were measured on both sides of the centre."""
    if acquired.step != 1 or acquired.start < 0 or acquired.stop > samples:
        raise ValueError(f"expected a range of samples within 0..{samples}, found {acquired}")
    centre = samples // 2
    reach = min(centre - acquired.start, acquired.stop - 1 - centre)
    if reach < 1:
        raise ValueError(
            f"expected samples on both sides of the centre {centre}, found {acquired.start} to "
            f"{acquired.stop - 1}: the phase can't be estimated; use the image as it is"
        )
    return reach


def _low_resolution_direction(data: Tensor, reach: int, axis: int) -> Tensor:
    """Unit phase factors of the image made from the symmetric centre (Hann window)."""
    distance = _distance(data.shape[axis], data)
    window = torch.cos(torch.pi / 2 * (distance / (reach + 1)).clamp(-1, 1)).square()
    return torch.sgn(ifft(data * _along(window, axis), axis))


def _distance(samples: int, like: Tensor) -> Tensor:
    """Signed distance of every sample from the centre, in the real dtype of `like`."""
    return torch.arange(samples, device=like.device, dtype=like.real.dtype) - samples // 2


def _indicator(acquired: range, samples: int, like: Tensor) -> Tensor:
    """One for measured samples, zero for the others, in the real dtype of `like`."""
    mask = torch.zeros(samples, device=like.device, dtype=like.real.dtype)
    mask[acquired.start : acquired.stop] = 1
    return mask


def _along(values: Tensor, axis: int) -> Tensor:
    """Values of one axis, shaped to broadcast against `... y x`."""
    return values[:, None] if axis == -2 else values
