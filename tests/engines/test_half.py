import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from chpnet_stream.engines.half import half_graph
from chpnet_stream.errors import EngineError
from chpnet_stream.network.weights import find_model
from tests.network.models import ARCHITECTURES


def run(content: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_half_arithmetic_inside_a_float32_wrapper(tiny_model, architecture):
    ((_, full), *_) = find_model(tiny_model(architecture)).graphs()
    half = half_graph(full)
    proto = onnx.load_from_string(half)
    onnx.checker.check_model(proto, full_check=True)
    wanted = onnx.load_from_string(full).graph
    for side in ("input", "output"):
        assert list(getattr(proto.graph, side)) == list(getattr(wanted, side))
    types = {w.data_type for w in proto.graph.initializer}
    assert types <= {TensorProto.FLOAT16, TensorProto.INT64}
    casts = [n for n in proto.graph.node if n.op_type == "Cast"]
    assert len(casts) == len(proto.graph.input) + len(proto.graph.output)
    feeds = {}
    for value in proto.graph.input:
        channels = value.type.tensor_type.shape.dim[1].dim_value
        size = 16 if value.name == "x" else 16 // (2 if architecture == "chpnet-rt" else 1)
        feeds[value.name] = torch.randn(1, channels, size, size).numpy()
    for found, expected in zip(run(half, feeds), run(full, feeds), strict=True):
        assert found.dtype == np.float32
        error = np.abs(found - expected).max() / np.abs(expected).max()
        assert 1e-6 < error < 5e-3  # half precision, and it really is


def test_the_shipped_graphs_can_be_halved():
    for name, content in find_model("chpnet-rt").graphs():
        half = half_graph(content)
        onnx.checker.check_model(onnx.load_from_string(half), full_check=True)
        assert len(half) < 1.05 * len(content), name


def test_a_cast_within_the_graph_is_refused():
    """It would have asked for float32 arithmetic that a strongly typed engine must obey."""
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "image")]
    nodes = [helper.make_node("Cast", ["x"], ["image"], to=TensorProto.FLOAT)]
    model = helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:]))
    with pytest.raises(EngineError, match="found a cast of 'x'; export the model again"):
        half_graph(model.SerializeToString())
