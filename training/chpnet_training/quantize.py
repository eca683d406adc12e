"""int8 graphs of a model: explicit quantization, calibrated on images."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chpnet_stream.engines.engine import Problem, first_line
from chpnet_stream.engines.graphs import GraphDenoiser
from chpnet_stream.errors import ModelError
from chpnet_stream.network.denoiser import Denoiser
from chpnet_stream.network.weights import Model, load_student


def quantize_model(model: Model, problems: Sequence[Problem]) -> list[bytes]:
    """Quantize the convolutions of a model's denoisers to int8.

    Every convolution but the first and the last gets QuantizeLinear and DequantizeLinear nodes
    around it, int8, symmetric: one scale for an activation, one for each channel of a weight. The
    scales of activations come from the largest values that are met on the problems; inputs are
    brought to a peak of one before, as the engines do it (`engines.graphs.GraphDenoiser`).

    Args:
        model: The model with its float32 graphs.
        problems: Images to calibrate on, of different kinds.

    Returns:
        ONNX, one graph for each denoiser.

    Raises:
        ModelError: If a graph can't be quantized.
    """
    feeds = _inputs(model, problems)
    return [
        _quantize(name, content, own)
        for (name, content), own in zip(model.graphs("fp32"), feeds, strict=True)
    ]


class _Watched:
    """A denoiser as a graph that remembers its inputs."""

    def __init__(self, denoiser: nn.Module) -> None:
        self.denoiser = denoiser
        self.seen: list[dict[str, np.ndarray]] = []

    def __call__(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        found = {"x": x.numpy().copy()}
        if state is not None:
            found["state"] = state.numpy().copy()
        self.seen.append(found)
        image, features = self.denoiser(x, state)
        return image, None if state is None else features


def _inputs(model: Model, problems: Sequence[Problem]) -> list[list[dict[str, np.ndarray]]]:
    """What every denoiser is given while the problems are solved in float32."""
    student = load_student(model)
    watched: list[_Watched] = []
    stand_ins: list[nn.Module] = []
    for denoiser in student.denoisers:
        if not isinstance(denoiser, Denoiser):
            raise ModelError(f"expected a Denoiser, found {type(denoiser).__name__}")
        watched.append(_Watched(denoiser))
        stand_ins.append(GraphDenoiser(watched[-1], denoiser, scaled=True))
    student.denoisers = nn.ModuleList(stand_ins)
    with torch.inference_mode():
        for problem in problems:
            student(problem.start, problem.adjoint, problem.normal, problem.noise)
    return [one.seen for one in watched]


def _quantize(name: str, content: bytes, feeds: list[dict[str, np.ndarray]]) -> bytes:
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    proto = _wide_weights(content)
    convolutions = [node.name for node in proto.graph.node if node.op_type == "Conv"]
    with tempfile.TemporaryDirectory(prefix="chpnet-int8-") as folder, _quiet():
        source, made = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(proto, source)
        try:
            quantize_static(
                source,
                made,
                Reader(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=[convolutions[0], convolutions[-1]],
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={
                    "ActivationSymmetric": True,
                    "WeightSymmetric": True,
                    "QuantizeBias": False,
                },
            )
        except (ValueError, RuntimeError, KeyError) as error:
            raise ModelError(f"{name}: can't be quantized: {first_line(error)}") from error
        return bytes(onnx.load(made).SerializeToString())


def _wide_weights(content: bytes) -> Any:
    """The graph with float32 weights where it stores float16 ones and casts them."""
    import onnx
    from onnx import numpy_helper

    proto = onnx.load_from_string(content)
    casts = {node.input[0]: node for node in proto.graph.node if node.op_type == "Cast"}
    for weight in proto.graph.initializer:
        cast = casts.pop(weight.name, None)
        if cast is not None:
            wide = numpy_helper.to_array(weight).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(wide, name=cast.output[0]))
            proto.graph.node.remove(cast)
    return proto


@contextlib.contextmanager
def _quiet() -> Any:
    """Without the quantizer's advice on standard output and in the root log."""
    import io
    import logging

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
