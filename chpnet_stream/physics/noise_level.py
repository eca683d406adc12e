"""Noise level of a scan that brought no noise scan."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from chpnet_stream.physics.fourier import ifft

STRIPS = 10
"""Parts of the field of view along the readout, of which the quietest one is taken."""


def estimate_noise(
    kspace: Tensor, sampled: Tensor, echo: tuple[int, int] | None = None, *, outer: float = 0.2
) -> Tensor:
    """Standard deviation of complex noise in every coil, where there is least signal.

    Readouts are transformed to positions along x, with a Hann window against ringing. In the
    outermost phase-encode lines an object has little signal, and beside the object none: of
    `STRIPS` strips along x, the quietest one (over all coils together) counts. The median of the
    squared magnitude there, over ln 2, is the variance of complex Gaussian noise (its square is
    exponentially distributed); the median ignores what signal is left.

    Args:
        kspace: Complex `coils ky kx`.
        sampled: Number of averages that each line has the noise of, `ky`; 0 where not measured.
        echo: First and past-the-last `kx` index measured; by default all.
        outer: Share of the measured lines that counts as outermost, at each end.

    Returns:
        Real `coils`: the standard deviation of a complex sample of one average; zero where there
        is nothing but zeros.
    """
    size = kspace.shape[-1]
    first, last = echo or (0, size)
    lines = torch.nonzero(sampled > 0).flatten()
    if lines.numel() == 0 or last <= first:
        return kspace.new_zeros(kspace.shape[0], dtype=kspace.real.dtype)
    count = max(1, math.ceil(outer * lines.numel()))
    lines = torch.unique(torch.cat([lines[:count], lines[-count:]]))
    taper = torch.zeros(size, dtype=kspace.real.dtype, device=kspace.device)
    taper[first:last] = torch.hann_window(last - first + 1, periodic=True, dtype=taper.dtype)[1:]
    profiles = ifft(kspace[:, lines] * taper, dim=-1)
    weight = sampled[lines].to(taper.dtype)[:, None] * size / taper.square().sum()
    power = profiles.abs().square() * weight  # coils line x
    strips = torch.stack(
        [part.flatten(1).median(dim=1).values for part in power.tensor_split(STRIPS, dim=-1)]
        if size >= STRIPS
        else [power.flatten(1).median(dim=1).values]
    )
    tiny = torch.finfo(strips.dtype).tiny
    quietest = strips.clamp_min(tiny).log().sum(dim=1).argmin()
    return (strips[quietest] / math.log(2)).sqrt()
