"""The task's A* A as the networks see it: on real tensors `batch channels y x`.

Complex images have two channels (real and imaginary part), magnitude images one. The
networks call `normal` and never learn which task they serve.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from chpnet_stream.network.config import Measured
from chpnet_stream.physics.narrow_gradient import NarrowGradient
from chpnet_stream.physics.narrow_sense import NarrowSense
from chpnet_stream.physics.operators import ColumnSense, Downsampling, KspaceCentre, LinearOperator


def to_channels(x: Tensor) -> Tensor:
    """Complex `batch y x` to real `batch 2 y x`."""
    return torch.view_as_real(x).movedim(-1, 1).contiguous()


def to_complex(x: Tensor) -> Tensor:
    """Real `batch 2 y x` to complex `batch y x`."""
    return torch.view_as_complex(x.movedim(1, -1).contiguous())


class Normal(Protocol):
    """A* A on `batch channels y x`."""

    def __call__(self, x: Tensor) -> Tensor:
        """Apply A* A."""


@runtime_checkable
class Solver(Protocol):
    """A `Normal` with conjugate gradients of its own, for the layout that suits it."""

    def solve(self, adjoint: Tensor, start: Tensor, weight: Tensor, steps: int) -> Tensor:
        """A few conjugate-gradient steps on (N + weight) x = adjoint + weight start, from start.

        Args:
            adjoint: A* y, `batch channels y x`.
            start: First image, `batch channels y x`.
            weight: Weight of that image, `batch 1 y x`.
            steps: How many.

        Returns:
            Image `batch channels y x`.
        """


class GramNormal:
    """A* A by one matrix for each readout position (`physics.operators.sense_gram`).

    Only real matrix products: the form that ONNX and TensorRT take.

    Args:
        real: Real part, `batch x y y`.
        imag: Imaginary part, `batch x y y`.
    """

    def __init__(self, real: Tensor, imag: Tensor) -> None:
        self.real = real
        self.imag = imag

    def __call__(self, x: Tensor) -> Tensor:
        """Image `batch 2 y x` to `batch 2 y x`."""
        columns = x.permute(0, 3, 2, 1)  # batch x y 2
        a = self.real @ columns
        b = self.imag @ columns
        out = torch.stack([a[..., 0] - b[..., 1], a[..., 1] + b[..., 0]], dim=1)  # batch 2 x y
        return out.transpose(-1, -2)


class ColumnNormal:
    """A* A by transforms along `y` (`physics.operators.ColumnSense`): PyTorch on a CPU."""

    def __init__(self, operator: ColumnSense) -> None:
        self.operator = operator

    def __call__(self, x: Tensor) -> Tensor:
        """Image `batch 2 y x` to `batch 2 y x`."""
        return self._columns(_to_columns(x)).permute(0, 3, 2, 1)

    def solve(self, adjoint: Tensor, start: Tensor, weight: Tensor, steps: int) -> Tensor:
        """See `Solver.solve`: the same steps, in the layout of `operator` from end to end."""
        x, weight = _to_columns(start), _to_columns(weight).expand(-1, -1, -1, 2).contiguous()
        residual = _to_columns(adjoint) - self._columns(x)
        direction = residual
        energy = _inner(residual, residual)
        for step in range(steps):
            image = torch.addcmul(self._columns(direction), weight, direction)
            size = energy / (_inner(direction, image) + 1e-20)
            x = torch.addcmul(x, direction, size)
            if step + 1 < steps:
                residual = torch.addcmul(residual, image, size, value=-1)
                fresh = _inner(residual, residual)
                direction = torch.addcmul(residual, direction, fresh / (energy + 1e-20))
                energy = fresh
        return x.permute(0, 3, 2, 1).contiguous()

    def _columns(self, x: Tensor) -> Tensor:
        """A* A of an image `batch x y 2`."""
        return torch.view_as_real(self.operator.normal_columns(torch.view_as_complex(x)))


class NarrowNormal:
    """A* A with few coils a column (`physics.narrow_sense.NarrowSense`): single images, on a CPU.

    Args:
        operator: The operator.
    """

    def __init__(self, operator: NarrowSense) -> None:
        self.operator = operator

    def __call__(self, x: Tensor) -> Tensor:
        """Image `1 2 y x` to `1 2 y x`."""
        return _from_stored(self.operator.normal_columns(_stored(x)))

    def solve(self, adjoint: Tensor, start: Tensor, weight: Tensor, steps: int) -> Tensor:
        """See `Solver.solve`."""
        operator = self.operator
        whole = _stored(start)  # beside the object there is nothing to solve: it stays
        guess = operator.pack(whole)
        pairs = operator.pack(weight[0, 0].T)[..., None].expand(-1, -1, 2).contiguous()
        rhs = torch.view_as_real(operator.pack(_stored(adjoint)))
        rhs = torch.view_as_complex(rhs.addcmul_(pairs, torch.view_as_real(guess)))
        solver = NarrowGradient(operator, rhs, pairs, guess)
        for step in range(steps):
            solver.step(last=step + 1 == steps)
        return _from_stored(operator.unpack(solver.x, whole))


def _stored(x: Tensor) -> Tensor:
    """Image `1 2 y x` to complex, stored as `x y`."""
    return torch.complex(x[0, 0], x[0, 1]).T.contiguous()


def _from_stored(image: Tensor) -> Tensor:
    """The same backwards."""
    return torch.view_as_real(image.T.contiguous()).permute(2, 0, 1).contiguous()[None]


def _to_columns(x: Tensor) -> Tensor:
    """Image `batch channels y x` to `batch x y channels`."""
    return x.permute(0, 3, 2, 1).contiguous()


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Inner products `batch 1 1 1` of real tensors `batch ...`."""
    return (a * b).sum(dim=(1, 2, 3), keepdim=True)


class OperatorNormal:
    """A* A of any complex `LinearOperator`, for masks that are not lines (PyTorch only)."""

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator

    def __call__(self, x: Tensor) -> Tensor:
        """Image `batch 2 y x` to `batch 2 y x`."""
        return to_channels(self.operator.normal(to_complex(x)))


class SuperresNormal:
    """A* A of the `superres` task, scaled to a largest eigenvalue of one.

    A measured pixel then counts with `factor` times its value, and so does its noise.

    Args:
        factor: Pixels along each axis to one measured pixel.
        measured: What a measured pixel is: the mean of its block, or, of a scan, what the centre
            of k-space tells.
    """

    def __init__(self, factor: int, measured: Measured = "blocks") -> None:
        self.factor = factor
        self.measured = measured
        self.operator = KspaceCentre(factor) if measured == "centre" else Downsampling(factor)

    def __call__(self, x: Tensor) -> Tensor:
        """Image `batch channels y x` to `batch channels y x`."""
        return self.operator.normal(x) * self.factor**2

    def adjoint(self, low: Tensor) -> Tensor:
        """A* of a measured image `batch channels y x`, on the same scale: as bright as it is."""
        return self.operator.adjoint(low) * self.factor**2

    def forward(self, x: Tensor) -> Tensor:
        """What would be measured of an image, in its own units."""
        return self.operator.forward(x)


def superres_start(low: Tensor, normal: SuperresNormal) -> Tensor:
    """The image that a network of the `superres` task begins with: a plain interpolation.

    Args:
        low: Measured image `batch channels y x`.
        normal: How it was measured. Means of blocks are interpolated by cubic splines, images of
            the centre of k-space by zero filling.
    """
    if normal.measured == "centre":
        return normal.adjoint(low)
    return functional.interpolate(
        low, scale_factor=normal.factor, mode="bicubic", align_corners=False
    )
