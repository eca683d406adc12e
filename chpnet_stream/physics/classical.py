"""Conventional reconstructions: zero-filled, root sum of squares, CG-SENSE."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from chpnet_stream.physics.coils import root_sum_of_squares
from chpnet_stream.physics.fourier import ifft


def conjugate_gradient(
    normal: Callable[[Tensor], Tensor],
    rhs: Tensor,
    *,
    start: Tensor | None = None,
    regularization: float | Tensor = 0.0,
    iterations: int = 10,
    tolerance: float = 0.0,
) -> Tensor:
    """Solve (N + lambda) x = b by conjugate gradients (Hestenes and Stiefel 1952).

    Batches are solved side by side: sums run over the last two axes. No entry of a batch
    can stop another one; a converged entry stays where it is.

    Args:
        normal: Positive semi-definite operator on `... y x`.
        rhs: Right-hand side b, `... y x`, complex.
        start: First guess, zero by default.
        regularization: lambda, a number or a tensor broadcast against `... y x`.
        iterations: Most iterations.
        tolerance: Stop when the residual's norm relative to b's falls below this everywhere.

    Returns:
        x, `... y x`.
    """
    x = torch.zeros_like(rhs) if start is None else start

    def system(v: Tensor) -> Tensor:
        return normal(v) + regularization * v

    residual = rhs - system(x) if start is not None else rhs
    direction = residual
    energy = _energy(residual)
    goal = tolerance**2 * _energy(rhs)
    tiny = torch.finfo(energy.dtype).tiny
    for _ in range(iterations):
        if tolerance > 0 and bool((energy <= goal).all()):
            break
        image = system(direction)
        curvature = (direction.conj() * image).real.sum(dim=(-2, -1), keepdim=True)
        step = torch.where(curvature > tiny, energy / curvature.clamp_min(tiny), 0.0)
        x = x + step * direction
        residual = residual - step * image
        fresh = _energy(residual)
        direction = residual + torch.where(energy > tiny, fresh / energy.clamp_min(tiny), 0.0) * (
            direction
        )
        energy = fresh
    return x


def _energy(x: Tensor) -> Tensor:
    return x.abs().square().sum(dim=(-2, -1), keepdim=True)


def cg_sense(
    normal: Callable[[Tensor], Tensor],
    adjoint: Tensor,
    *,
    regularization: float | Tensor = 1e-3,
    iterations: int = 15,
    tolerance: float = 1e-4,
) -> Tensor:
    """CG-SENSE with Tikhonov regularization (Pruessmann et al., Magn Reson Med 2001;46:638).

    Args:
        normal: A* A on `... y x`, with unit-norm maps and orthonormal Fourier transforms, so
            that its largest eigenvalue is at most one.
        adjoint: A* y, complex `... y x`.
        regularization: Relative to that largest eigenvalue.
        iterations: Most iterations.
        tolerance: Relative residual at which the iterations end.

    Returns:
        Complex image `... y x`.
    """
    return conjugate_gradient(
        normal, adjoint, regularization=regularization, iterations=iterations, tolerance=tolerance
    )


def zero_filled_rss(kspace: Tensor) -> Tensor:
    """Root sum of squares `... y x` of zero-filled k-space `... coils ky kx`."""
    return root_sum_of_squares(ifft(kspace))
