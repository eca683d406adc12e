"""ONNX Runtime: the denoisers as ONNX graphs, the iterations around them in PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from chpnet_stream.engines.engine import Problem, first_line, run_network
from chpnet_stream.errors import EngineError, ModelError
from chpnet_stream.network.denoiser import Denoiser
from chpnet_stream.network.weights import Model, check_file, load_student


class OnnxEngine:
    """Runs the convolutions in ONNX Runtime on the CPU.

    Data consistency stays in PyTorch, because ONNX's Fourier transforms are slow and inexact;
    what passes between the two shares its memory.

    Args:
        model: The model to load.
        threads: Threads of a graph; by default as many as PyTorch uses.
    """

    def __init__(self, model: Model, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EngineError("onnx: expected the package onnxruntime, found none") from error
        self.name = "onnx-cpu"
        self.card = model.card
        self.device = torch.device("cpu")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3
        # its threads would go on spinning while PyTorch works, on the same cores
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.student = load_student(model)
        sums = model.card.onnx_sha256
        if len(sums) != len(self.student.denoisers):
            raise ModelError(
                f"{model.card.name}: expected {len(self.student.denoisers)} ONNX graphs, one for "
                f"each denoiser, found {len(sums)} in the card; export the model again"
            )
        graphs = []
        for i, (denoiser, checksum) in enumerate(zip(self.student.denoisers, sums, strict=True)):
            content = check_file(model.onnx(i), checksum)
            try:
                session = onnxruntime.InferenceSession(
                    content, options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # ONNX Runtime's own classes have no root but this
                raise EngineError(
                    f"onnx: can't load {model.onnx(i).name}: {first_line(error)}"
                ) from error
            graphs.append(_GraphDenoiser(session, denoiser))
        self.student.denoisers = nn.ModuleList(graphs)

    def run(self, problem: Problem) -> Tensor:
        """See `Engine.run`."""
        return run_network(self.name, self.student, problem)


class _GraphDenoiser(nn.Module):
    """Stands where a `Denoiser` stood, and runs its ONNX graph."""

    def __init__(self, session: Any, denoiser: nn.Module) -> None:
        super().__init__()
        if not isinstance(denoiser, Denoiser):
            raise EngineError(f"onnx: expected a Denoiser, found {type(denoiser).__name__}")
        self.session = session
        self.multiple = denoiser.multiple
        self.state = denoiser.state
        self.state_shape = (denoiser.head.out_channels, denoiser.fold)
        self.outputs = [output.name for output in session.get_outputs()]

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """See `Denoiser.forward`."""
        rows, columns = x.shape[2:]
        padded = functional.pad(x, (0, -columns % self.multiple, 0, -rows % self.multiple))
        feeds = {"x": padded.contiguous().numpy()}
        if self.state:
            channels, fold = self.state_shape
            if state is None:
                shape = (padded.shape[2] // fold, padded.shape[3] // fold)
                state = padded.new_zeros(padded.shape[0], channels, *shape)
            feeds["state"] = state.contiguous().numpy()
        try:
            results = self.session.run(self.outputs, feeds)
        except Exception as error:  # ONNX Runtime's own classes have no root but this
            raise EngineError(f"onnx-cpu: {first_line(error)}") from error
        image = torch.from_numpy(results[0])[..., :rows, :columns]
        return image, torch.from_numpy(results[1]) if self.state else None
