"""Centred, orthonormal discrete Fourier transforms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

IMAGE_DIMS = (-2, -1)


def fft(image: Tensor, dim: Sequence[int] | int = IMAGE_DIMS) -> Tensor:
    """Image to k-space; both centres at index ``n // 2``, scaled by ``1 / sqrt(n)``.

    Args:
        image: Complex (or real) tensor of any shape.
        dim: Axis or axes to transform; by default the last two, `y x`.

    Returns:
        Complex tensor of the same shape.
    """
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    shifted = torch.fft.ifftshift(image, dim=dims)
    return torch.fft.fftshift(torch.fft.fftn(shifted, dim=dims, norm="ortho"), dim=dims)


def ifft(kspace: Tensor, dim: Sequence[int] | int = IMAGE_DIMS) -> Tensor:
    """K-space to image, the inverse and the adjoint of `fft`.

    Args:
        kspace: Complex tensor of any shape.
        dim: Axis or axes to transform; by default the last two, `ky kx`.

    Returns:
        Complex tensor of the same shape.
    """
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    shifted = torch.fft.ifftshift(kspace, dim=dims)
    return torch.fft.fftshift(torch.fft.ifftn(shifted, dim=dims, norm="ortho"), dim=dims)


def resize_centred(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Crop or zero-pad the last axes about the centre index ``n // 2``.

    Args:
        x: Tensor whose last ``len(shape)`` axes are resized.
        shape: Wanted sizes of these axes.

    Returns:
        Tensor with the centre sample of every axis kept at ``n // 2``.
    """
    for axis, new in zip(range(-len(shape), 0), shape, strict=True):
        old = x.shape[axis]
        start = old // 2 - new // 2
        if new < old:
            x = x.narrow(axis, start, new)
        elif new > old:
            pad = [0, 0] * (-axis)
            pad[-2:] = [-start, new - old + start]
            x = torch.nn.functional.pad(x, pad)
    return x
