"""int8 graphs: what is quantized, and that engines run them."""

import hashlib
import shutil

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from chpnet_stream.engines.onnx import OnnxEngine
from chpnet_stream.network.weights import Model, find_model
from chpnet_training.parity import CALIBRATION_HEAD, measure_parity, simulated_examples
from chpnet_training.quantize import quantize_model


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory):
    """A tiny model with int8 graphs."""
    folder = tmp_path_factory.mktemp("int8")
    for path in tiny_model().parent.glob("tiny.*"):
        shutil.copy(path, folder)
    plain = find_model(folder / "tiny.json")
    examples = simulated_examples("kspace", 3, head=CALIBRATION_HEAD, matrix=48)
    graphs = quantize_model(plain, [example.problem for example in examples])
    for i, graph in enumerate(graphs):
        plain.onnx(i, "int8").write_bytes(graph)
    sums = tuple(hashlib.sha256(graph).hexdigest() for graph in graphs)
    return Model(plain.card.model_copy(update={"int8_sha256": sums}), folder)


def test_convolutions_are_quantized_explicitly(model):
    proto = onnx.load(model.onnx(1, "int8"))
    onnx.checker.check_model(proto, full_check=True)
    made = {name: node for node in proto.graph.node for name in node.output}
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
    inputs = [[made[name].op_type for name in node.input if name in made] for node in convolutions]
    assert all(kinds == ["DequantizeLinear"] * 2 for kinds in inputs[1:-1])
    assert all("DequantizeLinear" not in kinds for kinds in (inputs[0], inputs[-1]))
    assert all(len(node.input) == 2 for node in convolutions)  # no biases


def test_scales_are_symmetric(model):
    proto = onnx.load(model.onnx(0, "int8"))
    values = {w.name: numpy_helper.to_array(w) for w in proto.graph.initializer}
    nodes = [n for n in proto.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert nodes
    for node in nodes:
        zero = values[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
    weights = [n for n in nodes if n.op_type == "DequantizeLinear" and n.input[0] in values]
    assert all(values[n.input[1]].shape == values[n.input[0]].shape[:1] for n in weights)


def test_onnx_runtime_runs_them(model):
    model.verify()
    engine = OnnxEngine(model, precision="int8")
    assert engine.name == "onnx-cpu-int8"
    report = measure_parity(model, engine, simulated_examples("kspace", 2, matrix=48))
    assert 20 < report.output_db < 70  # 8 bits: neither nonsense nor float32
