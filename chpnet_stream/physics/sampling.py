"""Sampling patterns along the phase-encode direction."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def calibration_range(lines: int, width: int) -> range:
    """The `width` lines around the k-space centre ``lines // 2``."""
    start = lines // 2 - width // 2
    return range(max(start, 0), min(start + width, lines))


def equispaced_mask(
    lines: int, acceleration: int, calibration: int = 0, *, offset: int = 0
) -> Tensor:
    """Every `acceleration`-th line and a fully sampled centre.

    Args:
        lines: Number of phase-encode lines of the full matrix.
        acceleration: Distance R between the measured lines.
        calibration: Number of fully sampled lines at the centre.
        offset: First measured line.

    Returns:
        Boolean `ky`.
    """
    mask = torch.zeros(lines, dtype=torch.bool)
    mask[offset % acceleration :: acceleration] = True
    mask[list(calibration_range(lines, calibration))] = True
    return mask


def random_mask(
    lines: int, acceleration: float, calibration: int, rng: np.random.Generator
) -> Tensor:
    """Uniformly random lines and a fully sampled centre, as in fastMRI (arXiv 1811.08839).

    Args:
        lines: Number of phase-encode lines of the full matrix.
        acceleration: Ratio of all lines to measured lines, the centre included.
        calibration: Number of fully sampled lines at the centre.
        rng: Source of randomness.

    Returns:
        Boolean `ky`.
    """
    mask = torch.zeros(lines, dtype=torch.bool)
    mask[list(calibration_range(lines, calibration))] = True
    missing = round(lines / acceleration) - int(mask.sum())
    if missing > 0:
        free = np.flatnonzero(~mask.numpy())
        mask[rng.choice(free, size=min(missing, free.size), replace=False)] = True
    return mask


def partial_fourier_mask(lines: int, fraction: float, *, early: bool = True) -> Tensor:
    """The lines kept by partial Fourier sampling with the given fraction (0.5 < fraction <= 1).

    Args:
        lines: Number of phase-encode lines of the full matrix.
        fraction: Share of the lines that is measured.
        early: Leave out the lines at the beginning (else at the end).

    Returns:
        Boolean `ky`.
    """
    if not 0.5 < fraction <= 1.0:
        raise ValueError(
            f"expected a partial Fourier fraction above 0.5, at most 1; found {fraction}"
        )
    mask = torch.ones(lines, dtype=torch.bool)
    skip = lines - round(lines * fraction)
    if skip:
        mask[slice(None, skip) if early else slice(-skip, None)] = False
    return mask


def acceleration_of(mask: Tensor) -> float:
    """Net acceleration: the ratio of the lines in the measured range to the measured lines."""
    lines = torch.nonzero(mask).flatten()
    if lines.numel() == 0:
        return float("nan")
    return float((lines[-1] - lines[0] + 1) / lines.numel())
