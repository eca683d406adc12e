"""Noise level of a scan that brought no noise scan."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def estimate_noise(
    kspace: Tensor, sampled: Tensor, echo: tuple[int, int] | None = None, *, corner: float = 0.15
) -> Tensor:
    """Standard deviation of complex noise in every coil, from the corners of k-space.

    Where both frequencies are highest an object has least signal. The median of the squared
    magnitude there, over ln 2, is the variance of complex Gaussian noise (its square is
    exponentially distributed); the median ignores what signal is left.

    Args:
        kspace: Complex `coils ky kx`.
        sampled: Number of averages of each line, `ky`; 0 where not measured.
        echo: First and past-the-last `kx` index measured; by default all.
        corner: Share of the measured lines and samples that counts as corner, at each end.

    Returns:
        Real `coils`: the standard deviation of a complex sample of one average; zero where the
        corners hold nothing but zeros.
    """
    first, last = echo or (0, kspace.shape[-1])
    lines = torch.nonzero(sampled > 0).flatten()
    if lines.numel() == 0 or last <= first:
        return kspace.new_zeros(kspace.shape[0], dtype=kspace.real.dtype)
    n_lines = max(1, math.ceil(corner * lines.numel()))
    n_samples = max(1, math.ceil(corner * (last - first)))
    outer = torch.unique(torch.cat([lines[:n_lines], lines[-n_lines:]]))
    columns = torch.cat(
        [torch.arange(first, first + n_samples), torch.arange(last - n_samples, last)]
    ).to(kspace.device)
    samples = kspace[:, outer][:, :, columns].abs().square()
    variance = samples * sampled[outer].to(samples.dtype)[None, :, None]
    return (variance.flatten(1).median(dim=1).values / math.log(2)).sqrt()
