import json
import logging
import shutil
import sys

import pytest
import torch

from chpnet_stream.engines.choice import default_device, make_engine
from chpnet_stream.engines.engine import Problem, first_line
from chpnet_stream.engines.onnx import OnnxEngine
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.errors import EngineError, ModelError
from chpnet_stream.network.weights import find_model
from tests.network.problems import problem_of

CPU = torch.device("cpu")


@pytest.fixture
def copied(tiny_model, tmp_path):
    """A card that may be damaged."""
    card = tiny_model()
    for path in card.parent.glob("tiny.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / card.name


def test_auto_takes_onnx_on_a_cpu(tiny_model):
    engine = make_engine("auto", find_model(tiny_model()), CPU)
    assert isinstance(engine, OnnxEngine)
    assert engine.name == "onnx-cpu"
    assert engine.card.name == "tiny"


def test_auto_tells_when_it_must_take_another(tiny_model, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    model = find_model(tiny_model())
    with caplog.at_level(logging.WARNING):
        engine = make_engine("auto", model, CPU)
    assert isinstance(engine, PyTorchEngine)
    assert engine.name == "pytorch-cpu"
    assert "expected the package onnxruntime" in caplog.text
    with pytest.raises(EngineError, match="expected the package onnxruntime"):
        make_engine("onnx", model, CPU)


def test_a_name_is_taken_at_its_word(tiny_model):
    model = find_model(tiny_model())
    assert isinstance(make_engine("pytorch", model, CPU), PyTorchEngine)
    assert isinstance(make_engine("onnx", model, CPU), OnnxEngine)
    with pytest.raises(EngineError, match="expected an engine of auto, onnx, pytorch, found 'cuda"):
        make_engine("cuda", model, CPU)


def test_default_device_exists():
    assert torch.ones(1, device=default_device()).sum() == 1


@pytest.mark.parametrize("name", ["onnx", "auto"])
def test_missing_graph_is_named(copied, name):
    copied.with_name("tiny.1.onnx").unlink()
    with pytest.raises(ModelError, match=r"tiny\.1\.onnx, found: No such file"):
        make_engine(name, find_model(copied), CPU)


@pytest.mark.parametrize("name", ["onnx", "auto"])
def test_damaged_graph_is_refused(copied, name):
    path = copied.with_name("tiny.0.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"tiny\.0\.onnx: expected SHA-256"):
        make_engine(name, find_model(copied), CPU)
    assert make_engine("pytorch", find_model(copied), CPU).name == "pytorch-cpu"


def test_what_is_no_graph_is_refused(copied):
    import hashlib

    path = copied.with_name("tiny.0.onnx")
    path.write_bytes(b"no graph at all")
    card = json.loads(copied.read_text())
    card["onnx_sha256"][0] = hashlib.sha256(path.read_bytes()).hexdigest()
    copied.write_text(json.dumps(card))
    with pytest.raises(EngineError, match=r"can't load tiny\.0\.onnx: .*") as caught:
        make_engine("onnx", find_model(copied), CPU)
    assert "\n" not in str(caught.value)


def test_card_with_too_few_graphs_is_refused(copied):
    card = json.loads(copied.read_text())
    card["onnx_sha256"].pop()
    copied.write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"expected 2 ONNX graphs.*found 1 in the card"):
        make_engine("onnx", find_model(copied), CPU)


@pytest.mark.parametrize("name", ["pytorch", "onnx"])
def test_failure_of_a_run_is_one_line(tiny_model, name):
    """A magnitude image for a network that takes complex ones."""
    engine = make_engine(name, find_model(tiny_model()), CPU)
    problem, _ = problem_of("superres", (16, 24), dtype=torch.float32)
    wrong = Problem(problem.start, problem.adjoint, problem.normal, problem.noise)
    with pytest.raises(EngineError, match=f"{name}-cpu: ") as caught:
        engine.run(wrong)
    assert "\n" not in str(caught.value)


def test_errors_without_words_are_named_by_their_class():
    assert first_line(RuntimeError()) == "RuntimeError"
    assert first_line(RuntimeError("\n one\ntwo")) == "one"
