"""PyTorch, on the CPU or on a GPU: the engine that every other one is compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chpnet_stream.engines.engine import Problem, run_network
from chpnet_stream.network.weights import Model, load_student


class PyTorchEngine:
    """Runs the student as it was trained.

    Args:
        model: The model to load.
        device: Where to run it.
        dtype: float32, or float64 for the reference that others are tested against.
    """

    def __init__(
        self, model: Model, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self.name = f"pytorch-{device.type}"
        self.card = model.card
        self.device = device
        self.network: nn.Module = load_student(model).to(device, dtype)

    def run(self, problem: Problem) -> Tensor:
        """See `Engine.run`."""
        return run_network(self.name, self.network, problem)
