"""OpenVINO: the denoisers as ONNX graphs on a CPU, the iterations around them in PyTorch."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from chpnet_stream.engines.engine import Problem, first_line, run_network
from chpnet_stream.engines.failures import FOREIGN
from chpnet_stream.engines.graphs import replace_denoisers
from chpnet_stream.errors import EngineError
from chpnet_stream.idle_threads import threads_of_all
from chpnet_stream.network.weights import Model, load_student

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""OpenVINO's names of the arithmetic, for int8 that around what a graph quantizes itself."""


class OpenVinoEngine:
    """Runs the convolutions in OpenVINO on the CPU.

    Args:
        model: The model to load.
        threads: Threads of a graph; by default as many as PyTorch uses.
        precision: "fp32" or "bf16"; "int8" only to measure why it is not offered.
    """

    def __init__(self, model: Model, threads: int | None = None, precision: str = "fp32") -> None:
        try:
            import openvino

            core = openvino.Core()
        except (ImportError, *FOREIGN) as error:  # not there, or not whole
            raise EngineError(
                f"openvino: expected the package openvino, found: {first_line(error)}; "
                "pip install 'chpnet-stream[openvino]'"
            ) from error
        self.name = "openvino-cpu" if precision == "fp32" else f"openvino-cpu-{precision}"
        self.card = model.card
        self.device = torch.device("cpu")
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "INFERENCE_NUM_THREADS": threads or threads_of_all(),
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }

        def load(name: str, content: bytes) -> _OpenVinoGraph:
            try:
                compiled = core.compile_model(core.read_model(content, b""), "CPU", settings)
            except RuntimeError as error:  # what all of OpenVINO's exceptions are
                raise EngineError(f"openvino: can't load {name}: {first_line(error)}") from error
            return _OpenVinoGraph(self.name, compiled)

        self.student = load_student(model)
        replace_denoisers(self.student, model, "fp32" if precision == "bf16" else precision, load)

    def run(self, problem: Problem) -> Tensor:
        """See `Engine.run`."""
        return run_network(self.name, self.student, problem)


class _OpenVinoGraph:
    """One graph; see `engines.graphs.Graph`. A request of its own for each thread."""

    def __init__(self, name: str, compiled: Any) -> None:
        self.name = name
        self.compiled = compiled
        self.requests = threading.local()

    def __call__(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        request = getattr(self.requests, "own", None)
        if request is None:
            request = self.requests.own = self.compiled.create_infer_request()
        feeds = {"x": x.numpy()}
        if state is not None:
            feeds["state"] = state.numpy()
        try:
            found = request.infer(feeds, share_inputs=True)
        except RuntimeError as error:  # what all of OpenVINO's exceptions are
            raise EngineError(f"{self.name}: {first_line(error)}") from error
        # copies: the next call of the same graph writes to the same memory
        image, *rest = (torch.from_numpy(found[port].copy()) for port in self.compiled.outputs)
        return image, rest[0] if state is not None else None
