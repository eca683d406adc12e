"""Conjugate gradients on packed images, for a CPU: few passes over memory, plain numbers."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from chpnet_stream.physics.narrow_sense import NarrowSense

TINY = sys.float_info.min


class NarrowGradient:
    """The iterations of `classical.ConjugateGradient` for a `NarrowSense`.

    Solves (N + w) x = b.

    Args:
        sense: N.
        rhs: b, packed.
        weight: w: a number, or real `columns y 2` (once for the real and once for the imaginary
            part).
        start: First guess, packed; zero by default.
    """

    def __init__(
        self,
        sense: NarrowSense,
        rhs: Tensor,
        weight: float | Tensor,
        start: Tensor | None = None,
    ) -> None:
        self._sense = sense
        self._rhs = torch.view_as_real(rhs)
        self._weight = weight
        self._diagonal = sense.extra + weight
        self._x = torch.zeros_like(self._rhs) if start is None else torch.view_as_real(start)
        self._own = start is None
        self._residual = self._rhs.clone() if start is None else self._rhs - self._system(self._x)
        self._direction = self._residual.clone()
        self._energy = _inner(self._residual, self._residual)

    @property
    def x(self) -> Tensor:
        """The estimate so far, packed."""
        self._own = False
        return torch.view_as_complex(self._x)

    def step(self, *, last: bool = False) -> None:
        """One iteration.

        Args:
            last: Nothing but `x` will be asked for, and no further step.
        """
        image = self._system(self._direction)
        size = _quotient(self._energy, _inner(self._direction, image))
        if self._own:  # what `x` gave stays as it is
            self._x.add_(self._direction, alpha=size)
        else:
            self._x, self._own = torch.add(self._x, self._direction, alpha=size), True
        if last:
            return
        self._residual.sub_(image, alpha=size)
        fresh = _inner(self._residual, self._residual)
        # d <- r + (fresh / energy) d
        self._direction.mul_(_quotient(fresh, self._energy)).add_(self._residual)
        self._energy = fresh

    def _system(self, v: Tensor) -> Tensor:
        image = torch.view_as_real(self._sense.coils_normal(torch.view_as_complex(v)))
        return image.addcmul_(self._diagonal, v)


def _inner(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.flatten(), b.flatten()))


def _quotient(above: float, below: float) -> float:
    return above / below if below > TINY else 0.0
