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
    solver = ConjugateGradient(normal, rhs, start=start, regularization=regularization)
    goal = tolerance**2 * inner(rhs, rhs)
    for _ in range(iterations):
        if tolerance > 0 and bool((solver.energy <= goal).all()):
            break
        solver.step()
    return solver.x


class ConjugateGradient:
    """The iterations of `conjugate_gradient`, one by one.

    Attributes:
        x: The estimate so far, `... y x`.
        energy: Squared norm of its residual, `... 1 1`.

    Args:
        normal: As for `conjugate_gradient`, like the others.
        rhs: Right-hand side.
        start: First guess.
        regularization: lambda.
    """

    def __init__(
        self,
        normal: Callable[[Tensor], Tensor],
        rhs: Tensor,
        *,
        start: Tensor | None = None,
        regularization: float | Tensor = 0.0,
    ) -> None:
        self.normal = normal
        self.rhs = rhs
        self.regularization = regularization
        self.x = torch.zeros_like(rhs) if start is None else start
        self._residual = rhs if start is None else rhs - self._system(start)
        self._direction = self._residual
        self.energy = inner(self._residual, self._residual)
        self._tiny = torch.finfo(self.energy.dtype).tiny

    def step(self) -> None:
        """One iteration."""
        image = self._system(self._direction)
        curvature = inner(self._direction, image)
        size = self._quotient(self.energy, curvature)
        self.x = self.x + size * self._direction
        self._residual = self._residual - size * image
        fresh = inner(self._residual, self._residual)
        self._direction = self._residual + self._quotient(fresh, self.energy) * self._direction
        self.energy = fresh

    def _system(self, v: Tensor) -> Tensor:
        return self.normal(v) + self.regularization * v

    def _quotient(self, above: Tensor, below: Tensor) -> Tensor:
        return torch.where(below > self._tiny, above / below.clamp_min(self._tiny), 0.0)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """Real part of the inner product of images, `... y x` to `... 1 1`."""
    if a.is_complex():
        a, b = (torch.view_as_real(v.resolve_conj()).flatten(-2) for v in (a, b))
    return (a * b).sum(dim=(-2, -1), keepdim=True)


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
