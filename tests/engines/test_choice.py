import json
import logging
import shutil
import sys

import pytest
import torch

from chpnet_stream.engines.allowed import PLAN_ENGINES
from chpnet_stream.engines.choice import default_device, make_engine
from chpnet_stream.engines.engine import Problem, first_line
from chpnet_stream.engines.onnx import OnnxEngine
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.errors import ConfigurationError, EngineError, ModelError
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


def test_auto_takes_onnx_on_a_cpu(tiny_model, bfloat16):
    bfloat16(False)
    engine = make_engine("auto", find_model(tiny_model()), CPU)
    assert isinstance(engine, OnnxEngine)
    assert engine.name == "onnx-cpu"
    assert engine.card.name == "tiny"


def test_auto_takes_bfloat16_where_the_cpu_has_it(tiny_model, bfloat16):
    bfloat16(True)
    model = find_model(tiny_model())
    assert make_engine("auto", model, CPU).name == "pytorch-cpu-bf16"
    assert make_engine("pytorch", model, CPU).name == "pytorch-cpu-bf16"
    assert make_engine("onnx", model, CPU).name == "onnx-cpu"
    assert make_engine("auto", model, CPU, "fp32").name == "onnx-cpu"
    assert make_engine("pytorch", model, CPU, "fp32").name == "pytorch-cpu"


def test_bfloat16_can_be_asked_for_everywhere(tiny_model, bfloat16):
    bfloat16(False)
    model = find_model(tiny_model())
    assert make_engine("auto", model, CPU, "bf16").name == "pytorch-cpu-bf16"
    assert make_engine("pytorch", model, CPU).name == "pytorch-cpu"


def test_auto_tells_when_it_must_take_another(tiny_model, monkeypatch, caplog, bfloat16):
    bfloat16(False)
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
    with pytest.raises(EngineError, match=r"expected an engine of auto, onnx, .*, found 'cuda"):
        make_engine("cuda", model, CPU)
    with pytest.raises(ConfigurationError, match="no precision 'fp8'; there are: auto"):
        make_engine("onnx", model, CPU, "fp8")


@pytest.mark.parametrize(
    ("engine", "precision", "says"),
    [
        ("onnx", "fp16", "onnx has no fp16 on cpu: CPUs convert .*; expected precision fp32"),
        (
            "pytorch",
            "int8",
            "pytorch has no int8 on cpu: .*; expected precision bf16 or engine onnx",
        ),
        ("openvino", "int8", "openvino has no int8 on cpu: it loses .* expected precision bf16"),
        ("auto", "fp16", "onnx has no fp16"),
    ],
)
def test_a_precision_that_is_not_there_is_refused(tiny_model, engine, precision, says):
    with pytest.raises(ConfigurationError, match=says):
        make_engine(engine, find_model(tiny_model()), CPU, precision)


def test_int8_needs_graphs(tiny_model):
    with pytest.raises(ModelError, match="expected ONNX graphs of precision int8, found none"):
        make_engine("onnx", find_model(tiny_model()), CPU, "int8")


def test_openvino_is_taken_at_its_word(tiny_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(
        EngineError, match=r"expected the package openvino.*chpnet-stream\[openvino"
    ):
        make_engine("openvino", find_model(tiny_model()), CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("name", PLAN_ENGINES)
def test_plans_without_a_gpu_fall_back_loudly(tiny_model, caplog, name):
    """The real chain: no package or no GPU for TensorRT, no CUDA for PyTorch, then the CPU."""
    with caplog.at_level(logging.WARNING):
        engine = make_engine(name, find_model(tiny_model()))
    assert engine.name == f"onnx-cpu (instead of {name})"
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{name}: expected ")
    problem, _ = problem_of("kspace", (16, 24), dtype=torch.float32)
    assert engine.run(problem).isfinite().all()


@pytest.mark.parametrize("name", PLAN_ENGINES)
def test_the_last_of_the_chain_is_pytorch(tiny_model, caplog, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with caplog.at_level(logging.WARNING):
        engine = make_engine(name, find_model(tiny_model()), CPU)
    assert engine.name == f"pytorch-cpu (instead of {name})"
    assert f"pip install 'chpnet-stream[{name}]'" in caplog.text
    assert "expected the package onnxruntime" in caplog.text


def test_a_gpu_that_is_not_there_is_told(tiny_model, caplog):
    """PyTorch on a GPU fails for real here, and its reason is in the warning."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with caplog.at_level(logging.WARNING):
        engine = make_engine("tensorrt", find_model(tiny_model()), torch.device("cuda"))
    assert engine.name == "onnx-cpu (instead of tensorrt)"
    assert engine.device == CPU
    (record,) = caplog.records
    assert "tensorrt" in record.getMessage()
    assert "CUDA" in record.getMessage()


def test_auto_on_a_gpu_needs_plans_for_half_precision(tiny_model):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(EngineError, match=r"expected plans of precision fp16.*compile"):
        make_engine("auto", find_model(tiny_model()), torch.device("cuda"), "fp16")


def test_default_device_exists():
    assert torch.ones(1, device=default_device()).sum() == 1


@pytest.mark.parametrize("name", ["onnx", "auto"])
def test_missing_graph_is_named(copied, name, bfloat16):
    bfloat16(False)
    copied.with_name("tiny.1.onnx").unlink()
    with pytest.raises(ModelError, match=r"tiny\.1\.onnx, found: No such file"):
        make_engine(name, find_model(copied), CPU)


@pytest.mark.parametrize("name", ["onnx", "auto"])
def test_damaged_graph_is_refused(copied, name, bfloat16):
    bfloat16(False)
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


@pytest.mark.parametrize("name", ["pytorch", "onnx", "openvino"])
def test_failure_of_a_run_is_one_line(tiny_model, name):
    """A magnitude image for a network that takes complex ones."""
    engine = make_engine(name, find_model(tiny_model()), CPU, "fp32")
    problem, _ = problem_of("superres", (16, 24), dtype=torch.float32)
    wrong = Problem(problem.start, problem.adjoint, problem.normal, problem.noise)
    with pytest.raises(EngineError, match=f"{name}-cpu: ") as caught:
        engine.run(wrong)
    assert "\n" not in str(caught.value)


def test_errors_without_words_are_named_by_their_class():
    assert first_line(RuntimeError()) == "RuntimeError"
    assert first_line(RuntimeError("\n one\ntwo")) == "one"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise OSError('libnvinfer.so.10: cannot open shared object file')", "libnvinfer.so.10"),
        ("class ILogger: pass\n__version__ = '8.5.3'", "expected version 10 or newer, found 8.5.3"),
        ("__version__ = '10.0'", "has no attribute 'ILogger'"),
    ],
    ids=["no library", "old", "another module"],
)
def test_packages_that_can_not_be_used_are_told(
    tiny_model, tmp_path, monkeypatch, caplog, text, says
):
    (tmp_path / "tensorrt.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with caplog.at_level(logging.WARNING):
        engine = make_engine("tensorrt", find_model(tiny_model()), CPU)
    assert engine.name == "onnx-cpu (instead of tensorrt)"
    (record,) = caplog.records
    assert says in record.getMessage()
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
