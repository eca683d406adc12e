"""The task's A* A as the networks see it: on real tensors `batch channels y x`.

Complex images have two channels (real and imaginary part), magnitude images one. The
networks call `normal` and never learn which task they serve.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from chpnet_stream.physics.operators import ColumnSense, Downsampling, LinearOperator


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
        columns = torch.view_as_complex(x.permute(0, 3, 2, 1).contiguous())
        return torch.view_as_real(self.operator.normal_columns(columns)).permute(0, 3, 2, 1)


class OperatorNormal:
    """A* A of any complex `LinearOperator`, for masks that are not lines (PyTorch only)."""

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator

    def __call__(self, x: Tensor) -> Tensor:
        """Image `batch 2 y x` to `batch 2 y x`."""
        return to_channels(self.operator.normal(to_complex(x)))


class DownsamplingNormal:
    """D* D of the `superres` task, scaled to a largest eigenvalue of one."""

    def __init__(self, factor: int) -> None:
        self.operator = Downsampling(factor)

    def __call__(self, x: Tensor) -> Tensor:
        """Image `batch channels y x` to `batch channels y x`."""
        return self.operator.normal(x) * self.operator.factor**2
