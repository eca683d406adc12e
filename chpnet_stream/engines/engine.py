"""What every engine can do. An engine knows tensors, no slices and no scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from chpnet_stream.errors import EngineError
from chpnet_stream.network.card import ModelCard
from chpnet_stream.network.normal import Normal


@dataclass(frozen=True)
class Problem:
    """The input of a student (`network.chpnet.Student.forward`), on one device.

    Attributes:
        start: First image, `batch channels y x`, float32.
        adjoint: A* y, `batch channels y x`, float32.
        normal: A* A.
        noise: Standard deviation of the noise's real part, `batch 1 1 1`, float32.
    """

    start: Tensor
    adjoint: Tensor
    normal: Normal
    noise: Tensor


def first_line(error: Exception) -> str:
    """The first line of an error of somebody else's, or its class where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def run_network(name: str, network: Callable[..., Tensor], problem: Problem) -> Tensor:
    """Run a network of a student's interface in PyTorch; see `Engine.run`.

    Args:
        name: Of the engine, for messages.
        network: The network.
        problem: Its input.

    Raises:
        EngineError: If PyTorch fails.
    """
    try:
        with torch.inference_mode():
            return network(problem.start, problem.adjoint, problem.normal, problem.noise)
    except RuntimeError as error:  # torch raises this for memory, shapes and devices
        raise EngineError(f"{name}: {first_line(error)}") from error


class Engine(Protocol):
    """A loaded model, ready to run."""

    card: ModelCard
    """The model that it runs."""
    device: torch.device
    """Where its inputs must be."""

    @property
    def name(self) -> str:
        """Name for tables, headers and logs: of what made the last image of this thread."""

    def run(self, problem: Problem) -> Tensor:
        """Reconstruct: `batch channels y x`, float32, on the same device.

        Raises:
            EngineError: If the engine fails.
        """
