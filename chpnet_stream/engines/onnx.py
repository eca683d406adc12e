"""ONNX Runtime: the denoisers as ONNX graphs, the iterations around them in PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from chpnet_stream.engines.engine import Problem, first_line, run_network
from chpnet_stream.engines.failures import FOREIGN
from chpnet_stream.engines.graphs import replace_denoisers
from chpnet_stream.errors import EngineError
from chpnet_stream.idle_threads import threads_of_all
from chpnet_stream.network.weights import Model, load_student


class OnnxEngine:
    """Runs the convolutions in ONNX Runtime on the CPU.

    Data consistency stays in PyTorch, because ONNX's Fourier transforms are slow and inexact;
    what passes between the two shares its memory.

    Args:
        model: The model to load.
        threads: Threads of a graph; by default as many as PyTorch uses.
        precision: "fp32", or "int8" where the model has such graphs; "fp16" only to try the graphs
            that are meant for GPUs.
    """

    def __init__(self, model: Model, threads: int | None = None, precision: str = "fp32") -> None:
        try:
            import onnxruntime
        except (ImportError, *FOREIGN) as error:  # not there, or not whole
            raise EngineError(
                f"onnx: expected the package onnxruntime, found: {first_line(error)}; "
                "pip install --force-reinstall onnxruntime"
            ) from error
        self.name = "onnx-cpu" if precision == "fp32" else f"onnx-cpu-{precision}"
        self.card = model.card
        self.device = torch.device("cpu")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or threads_of_all()
        options.log_severity_level = 3
        # its threads would go on spinning while PyTorch works, on the same cores
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")

        def load(name: str, content: bytes) -> _OnnxGraph:
            if precision == "fp16":
                from chpnet_stream.engines.half import half_graph

                content = half_graph(content)
            try:
                session = onnxruntime.InferenceSession(
                    content, options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # ONNX Runtime's own classes have no root but this
                raise EngineError(f"onnx: can't load {name}: {first_line(error)}") from error
            return _OnnxGraph(self.name, session)

        self.student = load_student(model)
        replace_denoisers(self.student, model, precision, load)

    def run(self, problem: Problem) -> Tensor:
        """See `Engine.run`."""
        return run_network(self.name, self.student, problem)


class _OnnxGraph:
    """One graph; see `engines.graphs.Graph`."""

    def __init__(self, name: str, session: Any) -> None:
        self.name = name
        self.session = session
        self.outputs = [output.name for output in session.get_outputs()]

    def __call__(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        feeds = {"x": x.numpy()}
        if state is not None:
            feeds["state"] = state.numpy()
        try:
            results = self.session.run(self.outputs, feeds)
        except Exception as error:  # ONNX Runtime's own classes have no root but this
            raise EngineError(f"{self.name}: {first_line(error)}") from error
        return torch.from_numpy(results[0]), (
            None if state is None else torch.from_numpy(results[1])
        )
