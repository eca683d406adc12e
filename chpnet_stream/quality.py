"""Checks of a network image against the measured data, before it is sent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

LARGEST_ENERGY_RATIO = 2.0
"""A network image may have at most this many times the energy of CG-SENSE's.

There is no lower bound: CG-SENSE's energy may be mostly noise. An image that is too dark misses
the data.
"""

LARGEST_RESIDUAL_RATIO = 2.0
"""Its residual may be this many times CG-SENSE's, plus `RESIDUAL_MARGIN` of the data.

But never more than one, the residual of an empty image.
"""

RESIDUAL_MARGIN = 0.05


@dataclass(frozen=True)
class Quality:
    """What the checks found.

    Attributes:
        residual: Root of the energy of A x - y relative to that of y.
        baseline_residual: The same of the CG-SENSE image.
        energy_ratio: Energy of the image relative to CG-SENSE's.
        problem: None, or what kind of fault forbids to send the image.
        detail: The same in words.
    """

    residual: float
    baseline_residual: float
    energy_ratio: float
    problem: str | None = None
    detail: str = ""


def residual(
    image: Tensor, adjoint: Tensor, normal: Callable[[Tensor], Tensor], data_energy: float
) -> float:
    """Relative data-consistency residual ``|A x - y| / |y|``, from A* A and A* y alone.

    ``|A x - y|^2 = Re <x, A*A x - 2 A* y> + |y|^2``, summed in double precision.

    Args:
        image: x, complex `... y x`.
        adjoint: A* y, complex `... y x`.
        normal: A* A.
        data_energy: ``|y|^2``.

    Returns:
        The residual; NaN if the image is not finite, zero if there are no data.
    """
    gap = (image.conj() * (normal(image) - 2 * adjoint)).real.double().sum().item() + data_energy
    if math.isnan(gap):
        return math.nan
    return math.sqrt(max(gap, 0.0) / data_energy) if data_energy > 0 else 0.0


def check(
    image: Tensor,
    baseline: Tensor,
    adjoint: Tensor,
    normal: Callable[[Tensor], Tensor],
    data_energy: float,
) -> Quality:
    """Judge a network image by the data and by the conventional image.

    Args:
        image: The network's, complex `y x`.
        baseline: CG-SENSE's, complex `y x`.
        adjoint: A* y, complex `y x`.
        normal: A* A.
        data_energy: ``|y|^2``.

    Returns:
        The findings; `problem` is None where the image may go out.
    """
    if not bool(image.isfinite().all()):
        detail = "the network's image has NaN or infinite pixels"
        return Quality(math.nan, math.nan, math.nan, "not finite", detail)
    energy = image.abs().square().double().sum().item()
    reference = baseline.abs().square().double().sum().item()
    ratio = energy / reference if reference > 0 else (1.0 if energy == 0 else math.inf)
    found = residual(image, adjoint, normal, data_energy)
    usual = residual(baseline, adjoint, normal, data_energy)
    allowed = min(1.0, LARGEST_RESIDUAL_RATIO * usual + RESIDUAL_MARGIN)
    if ratio > LARGEST_ENERGY_RATIO:
        detail = f"the network's image has {ratio:.3g} times the energy of CG-SENSE's"
        return Quality(found, usual, ratio, "wrong scale", detail)
    if not found <= allowed:
        detail = f"the network's image misses the data by {found:.3f}, allowed is {allowed:.3f}"
        return Quality(found, usual, ratio, "misses the data", detail)
    return Quality(found, usual, ratio)
