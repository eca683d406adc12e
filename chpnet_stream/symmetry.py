"""Partial Fourier and asymmetric echoes of one slice: what is one-sided is filled in."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from chpnet_stream.physics.partial_fourier import pocs
from chpnet_stream.scan.slices import Slice

ASYMMETRY = 0.06
"""Share of an axis by which one side must be measured further to count as partial Fourier."""

FEWEST_BEYOND_CENTRE = 4
"""Samples on the short side of the centre that the phase of a partial Fourier image needs."""


def symmetrize(data: Slice, image: Tensor, *, rows: bool) -> tuple[Tensor, list[str]]:
    """Fill the side of k-space that was not measured, from the other by its phase.

    Args:
        data: The slice that the image, complex `y x`, is of.
        image: The image.
        rows: Also along the phase-encode lines.

    Returns:
        The image, and what was done.
    """
    notes = []
    lines = np.flatnonzero(data.sampled)
    measured = range(int(lines[0]), int(lines[-1]) + 1)
    spacing = int(np.diff(lines).max(initial=1))
    if rows and _one_sided(measured, image.shape[-2], spacing):
        image = pocs(image, measured, axis=-2)
        notes.append("POCS along y")
    samples = range(*data.echo_samples)
    if _one_sided(samples, image.shape[-1], 1):
        image = pocs(image, samples, axis=-1)
        notes.append("POCS along x")
    return image, notes


def _one_sided(measured: range, size: int, spacing: int) -> bool:
    """Whether one side of the centre is measured clearly further than the other."""
    before, after = size // 2 - measured.start, measured.stop - 1 - size // 2
    if min(before, after) < FEWEST_BEYOND_CENTRE:
        return False
    return abs(before - after) > max(ASYMMETRY * size, spacing)
