"""PyTorch, on the CPU or on a GPU: the engine that every other one is compared with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from chpnet_stream.engines.engine import Problem, run_network
from chpnet_stream.engines.fused import fused
from chpnet_stream.errors import EngineError
from chpnet_stream.network.weights import Model, load_student


class PyTorchEngine:
    """Runs the student as it was trained.

    Args:
        model: The model to load.
        device: Where to run it.
        dtype: float32, or float64 for the reference that others are tested against.
        precision: "fp32", or "bf16" for denoisers in bfloat16; everything else stays as `dtype`.
        record: On a GPU, whether a matrix that comes again is run as one CUDA graph.

    Raises:
        EngineError: If the device is not there.
        ModelError: If the model's files are damaged.
    """

    def __init__(
        self,
        model: Model,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        *,
        precision: str = "fp32",
        record: bool = True,
    ) -> None:
        if device.type == "cuda" and not torch.cuda.is_available():
            raise EngineError("pytorch: expected a GPU that CUDA of PyTorch can use, found none")
        self.name = f"pytorch-{device.type}" + ("" if precision == "fp32" else f"-{precision}")
        self.card = model.card
        self.device = device
        student = load_student(model).to(device, dtype)
        if precision == "bf16":
            student.denoisers = nn.ModuleList(
                fused(d) or Bfloat16Denoiser(d) for d in student.denoisers
            )
        self.network: Callable[..., Tensor] = student
        if device.type == "cuda":
            from chpnet_stream.engines.cuda_runner import CudaRunner

            self.network = CudaRunner(student, device, record=record)

    def run(self, problem: Problem) -> Tensor:
        """See `Engine.run`."""
        return run_network(self.name, self.network, problem)


class Bfloat16Denoiser(nn.Module):
    """Stands where a `Denoiser` stood, and computes in bfloat16 with channels innermost.

    For a PyTorch without the convolutions of `fused`. The exponent of bfloat16 is that of float32,
    so that no image is too bright or too dark for it.

    Args:
        denoiser: The denoiser, changed in place.
    """

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser.to(torch.bfloat16).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """See `Denoiser.forward`; the features stay bfloat16, as only a denoiser reads them."""
        narrow = x.to(torch.bfloat16, memory_format=torch.channels_last)
        image, features = self.denoiser(narrow, state)
        return image.to(x.dtype), features
