"""Images on finer pixels: what zero-filling of k-space gives, for any pixel size."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


def interpolate(image: Tensor, size: int, step: float, dim: int) -> Tensor:
    """An image on other pixels along one axis, by its own spatial frequencies.

    The centred transform of the axis is summed at the new positions: where `step` is n / size, the
    values are those of k-space that is zero-filled from n to `size` samples (``bart resize -c``
    between two transforms, times ``sqrt(size / n)``: amplitudes stay). Any other step is as exact,
    which zero-filling to a whole number of samples is not. Nothing is smoothed.

    Args:
        image: Complex image of any shape.
        size: Pixels wanted along the axis; pixel ``n // 2`` becomes pixel ``size // 2``.
        step: Their distance, in pixels of the image.
        dim: The axis.

    Returns:
        Complex tensor, contiguous where `dim` is the last axis or the one before.
    """
    kernel = _kernel(image.shape[dim], size, step).to(image.device, image.dtype)
    if dim % image.ndim == image.ndim - 2:
        return kernel @ image
    return (image.movedim(dim, -1) @ kernel.mT).movedim(-1, dim)


@lru_cache(maxsize=8)
def _kernel(n: int, size: int, step: float) -> Tensor:
    """Weights `size n` of the pixels in each new one: Dirichlet's kernel, in double precision."""
    positions = step * (torch.arange(size, dtype=torch.float64) - size // 2)
    pixels = torch.arange(n, dtype=torch.float64) - n // 2
    turns = 2 * math.pi / n * pixels  # frequencies and pixels are counted alike
    waves = torch.polar(torch.ones(1, dtype=torch.float64), torch.outer(positions, turns))
    back = torch.polar(torch.ones(1, dtype=torch.float64), -torch.outer(turns, pixels))
    return waves @ back / n
