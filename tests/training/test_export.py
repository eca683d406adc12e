import getpass
import json
import socket
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from chpnet_stream.errors import OutputError
from chpnet_stream.network.weights import find_model, load_student
from chpnet_training.export import export_denoiser, export_model, round_to_half
from tests.network.models import ARCHITECTURES, TASKS, tiny_config, untrained, write_checkpoint

BOTH = pytest.mark.parametrize("architecture", ARCHITECTURES)


@BOTH
def test_the_card_describes_the_files(tiny_model, architecture):
    path = tiny_model(architecture)
    model = find_model(path)
    model.verify()
    card = model.card
    assert card.name == "tiny"
    assert card.steps == 7
    assert card.parameters == sum(p.numel() for p in load_student(model).parameters())
    assert len(card.onnx_sha256) == (1 if architecture == "chpnet" else 2)
    assert card.recipe["student"] == json.loads(card.student.model_dump_json())
    assert not list(path.parent.glob("*.part"))


@BOTH
@pytest.mark.parametrize("task", TASKS)
def test_graphs_are_standard_and_dynamic(tiny_model, architecture, task):
    model = find_model(tiny_model(architecture, task))
    for i in range(len(model.card.onnx_sha256)):
        proto = onnx.load(model.onnx(i))
        onnx.checker.check_model(proto, full_check=True)
        graph = proto.graph
        names = [value.name for value in graph.input]
        assert names == (["x"] if architecture == "chpnet" else ["x", "state"])
        outputs = [value.name for value in graph.output]
        assert outputs == (["image"] if architecture == "chpnet" else ["image", "features"])
        sizes = graph.input[0].type.tensor_type.shape.dim
        assert [bool(d.dim_param) for d in sizes] == [True, False, True, True]
        assert {o.domain: o.version for o in proto.opset_import} == {"": 18}
        assert not {node.op_type for node in graph.node} & {"DFT", "ConvTranspose"}


@BOTH
def test_graphs_hold_nothing_of_the_exporter(tiny_model, architecture):
    model = find_model(tiny_model(architecture))
    home = Path(__file__).resolve().parents[2]
    for i in range(len(model.card.onnx_sha256)):
        content = model.onnx(i).read_bytes()
        for trace in (str(home), "site-packages", ".py", "/tmp", socket.gethostname()):  # noqa: S108
            assert trace.encode() not in content, trace
        if len(getpass.getuser()) > 4:
            assert getpass.getuser().encode() not in content
        assert b"pkg.torch" not in content


def test_weights_are_stored_in_half_precision(tiny_model):
    model = find_model(tiny_model())
    proto = onnx.load(model.onnx(0))
    half = [w for w in proto.graph.initializer if w.data_type == onnx.TensorProto.FLOAT16]
    full = [w for w in proto.graph.initializer if w.data_type == onnx.TensorProto.FLOAT]
    assert half
    assert all(np.prod(w.dims) < 256 for w in full)
    stored = {onnx.numpy_helper.to_array(w).tobytes() for w in half}
    denoiser = load_student(model).denoisers[0]
    large = [p for p in denoiser.parameters() if p.numel() >= 256]
    assert len(half) == len(large)
    for parameter in large:
        assert parameter.half().contiguous().numpy().tobytes() in stored


def test_rounding_keeps_what_is_representable():
    student = untrained(tiny_config())
    rounded = [p.clone() for p in round_to_half(student).parameters()]
    for now, again in zip(rounded, round_to_half(student).parameters(), strict=True):
        assert torch.equal(now, again)
        assert torch.equal(now, now.half().float())


def test_export_into_a_new_folder_by_another_name(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "last.ckpt", tiny_config("chpnet", "superres"))
    card = export_model(
        checkpoint,
        tmp_path / "a" / "b",
        name="other",
        data=(),
        metrics={"phantom": {"psnr": 30.0}},
        limits=(),
        training="",
    )
    assert card == tmp_path / "a" / "b" / "other.json"
    assert find_model(card).card.metrics["phantom"]["psnr"] == 30.0
    assert sorted(p.name for p in card.parent.iterdir()) == [
        "other.0.onnx",
        "other.json",
        "other.safetensors",
    ]


def test_an_interrupted_write_leaves_no_graph(tmp_path, monkeypatch):
    def fail(self, content):
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError, match=r"can't write .*x\.onnx: No space left"):
        export_denoiser(untrained(tiny_config("chpnet")).denoisers[0], tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()
