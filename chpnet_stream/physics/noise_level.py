"""Noise level of a scan that brought no noise scan."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from chpnet_stream.physics.fourier import ifft

STRIPS = 10
"""Parts of the field of view along the readout, of which the quietest one is taken."""

CORNERS = 0.1
"""Share of the lines, and of the samples along them, at each end: the corners of k-space."""

CLEARLY = 0.7
"""Energy of the corners, over that of the quietest strip, below which the object leaves no air."""

LEAST_IN_CORNERS = 64
"""Samples of a coil without which its corners say nothing."""

FILTERED = 0.5
"""Energy of the corners, over that of corners twice as wide, below which they were filtered."""


def estimate_noise(
    kspace: Tensor, sampled: Tensor, echo: tuple[int, int] | None = None, *, outer: float = 0.2
) -> Tensor:
    """Standard deviation of complex noise in every coil, where there is least signal.

    Readouts are transformed to positions along x, with a Hann window against ringing. In the
    outermost phase-encode lines an object has little signal, and beside the object none: of
    `STRIPS` strips along x, the quietest one (over all coils together) counts. Where the object
    fills the field of view, the corners of k-space are quieter than all of these; then they count,
    if nobody has emptied or filtered them. The median of the squared magnitude there, over ln 2, is
    the variance of complex Gaussian noise (its square is exponentially distributed); the median
    ignores what signal is left.

    Args:
        kspace: Complex `coils ky kx`.
        sampled: Number of averages that each line has the noise of, `ky`; 0 where not measured.
        echo: First and past-the-last `kx` index measured; by default all.
        outer: Share of the measured lines that counts as outermost, for each end; of partial
            Fourier, all of them are at one end.

    Returns:
        Real `coils`: the standard deviation of a complex sample of one average; zero where there
        is nothing but zeros.
    """
    size = kspace.shape[-1]
    first, last = echo or (0, size)
    measured = torch.nonzero(sampled > 0).flatten()
    if measured.numel() == 0 or last <= first:
        return kspace.new_zeros(kspace.shape[0], dtype=kspace.real.dtype)
    lines = _outermost(measured, kspace.shape[1], outer)
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
    quietest = strips[_logarithm(strips).argmin()]
    corners = _corners(kspace, sampled, measured, (first, last))
    if corners is not None and bool((corners > 0).eq(quietest > 0).all()):
        clearly = _logarithm(corners) - _logarithm(quietest) < math.log(CLEARLY)
        quietest = corners if bool(clearly) else quietest
    return (quietest / math.log(2)).sqrt()


def _logarithm(energies: Tensor) -> Tensor:
    """Mean logarithm of the energies `... coils`."""
    return energies.clamp_min(torch.finfo(energies.dtype).tiny).log().mean(-1)


def _outermost(places: Tensor, size: int, share: float) -> Tensor:
    """Of some places along an axis those farthest from its centre: `share` of them for each end."""
    count = max(1, math.ceil(2 * share * len(places)))
    order = (places - size // 2).abs().argsort(descending=True, stable=True)
    return places[order[:count]].sort().values


def _corners(
    kspace: Tensor, sampled: Tensor, lines: Tensor, echo: tuple[int, int]
) -> Tensor | None:
    """Median energy of a sample of one average in the corners of k-space, `coils`.

    None where they are too small, or quieter than what is beside them: noise is not.
    """
    found = []
    for share in (CORNERS, 2 * CORNERS):
        rows = _outermost(lines, kspace.shape[1], share)
        columns = _outermost(torch.arange(*echo, device=lines.device), kspace.shape[2], share)
        if len(rows) * len(columns) < LEAST_IN_CORNERS:
            return None
        power = kspace[:, rows][:, :, columns].abs().square() * sampled[rows][:, None]
        found.append(power.flatten(1).median(dim=1).values.to(kspace.real.dtype))
    alone, wider = found
    even = bool(_logarithm(alone) - _logarithm(wider) > math.log(FILTERED))
    return alone if even else None
