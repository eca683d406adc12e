import json
import logging
import shutil
import sys

import pytest
import torch

from chpnet_stream.engines import choice, pytorch, tensorrt
from chpnet_stream.engines.allowed import PLAN_ENGINES
from chpnet_stream.engines.choice import default_device, make_engine
from chpnet_stream.engines.engine import Problem, first_line
from chpnet_stream.engines.failures import (
    NoMemoryError,
    NoPlansError,
    NotInstalledError,
    told,
)
from chpnet_stream.engines.onnx import OnnxEngine
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.engines.stand_in import reason_of
from chpnet_stream.engines.tensorrt_package import load_package
from chpnet_stream.engines.with_spare import WithSpare
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


def test_bfloat16_can_be_asked_for_everywhere(tiny_model, bfloat16, caplog):
    bfloat16(False)
    model = find_model(tiny_model())
    assert make_engine("pytorch", model, CPU).name == "pytorch-cpu"
    assert not caplog.messages
    assert make_engine("auto", model, CPU, "bf16").name == "pytorch-cpu-bf16"
    assert "this CPU has no bfloat16 instructions" in caplog.messages[0]
    caplog.clear()
    bfloat16(True)
    make_engine("auto", model, CPU, "bf16")
    assert not [m for m in caplog.messages if "this CPU has no bfloat16" in m]


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
            "pytorch has no int8 on cpu: .*; expected precision bf16",
        ),
        ("onnx", "int8", "onnx has no int8 on cpu: it loses half a dB .* expected precision fp32"),
        ("openvino", "int8", "openvino has no int8 on cpu: it loses .* expected precision bf16"),
        ("auto", "fp16", "onnx has no fp16"),
    ],
)
def test_a_precision_that_is_not_there_is_refused(tiny_model, engine, precision, says):
    with pytest.raises(ConfigurationError, match=says):
        make_engine(engine, find_model(tiny_model()), CPU, precision)


def test_int8_needs_graphs(tiny_model):
    with pytest.raises(ModelError, match="expected ONNX graphs of precision int8, found none"):
        OnnxEngine(find_model(tiny_model()), precision="int8")


def test_openvino_is_taken_at_its_word(tiny_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(
        EngineError, match=r"expected the package openvino.*chpnet-stream\[openvino"
    ):
        make_engine("openvino", find_model(tiny_model()), CPU)


@pytest.mark.parametrize(
    ("name", "package", "text", "says"),
    [
        ("onnx", "onnxruntime", "raise AttributeError('_ARRAY_API not found')", "_ARRAY_API"),
        ("onnx", "onnxruntime", "raise ImportError('libstdc++.so.6: too old')", "libstdc"),
        ("openvino", "openvino", "raise AttributeError('_ARRAY_API not found')", "_ARRAY_API"),
        ("openvino", "openvino", "def Core():\n    raise RuntimeError('no plugins')", "no plugins"),
    ],
)
def test_a_package_that_is_not_whole_is_told(
    tiny_model, tmp_path, monkeypatch, name, package, text, says
):
    model = find_model(tiny_model())
    (tmp_path / f"{package}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, package, raising=False)
    try:
        with pytest.raises(EngineError, match=rf"package {package}, found: .*{says}.*; pip inst"):
            make_engine(name, model, CPU)
    finally:
        sys.modules.pop(package, None)


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


def test_a_gpu_that_is_missed_is_told(tiny_model, tmp_path, monkeypatch, caplog, bfloat16):
    """As behind an update of the kernel or the driver: nothing else would tell it in a scan."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    bfloat16(False)
    driver = tmp_path / "version"
    monkeypatch.setattr(choice, "DRIVER", driver)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    model = find_model(tiny_model())
    make_engine("auto", model)
    assert not caplog.records  # there is none
    driver.write_text("NVRM version: ...")
    for name in ("auto", "pytorch"):
        caplog.clear()
        assert make_engine(name, model).device == CPU
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith("PyTorch can't use the GPU of this machine: ")
    caplog.clear()
    make_engine("onnx", model)
    make_engine("auto", model, CPU)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    make_engine("auto", model)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.version, "cuda", None)
    make_engine("auto", model)
    assert not caplog.records  # it is meant


def test_auto_tells_where_a_gpu_has_no_such_precision(tiny_model, machine):
    said = "auto has no bf16 on a GPU: on a GPU it is not measured; .*; expected precision auto"
    with pytest.raises(EngineError, match=said):
        make_engine("auto", find_model(tiny_model()), GPU, "bf16")


def test_default_device_exists():
    assert torch.ones(1, device=default_device()).sum() == 1


def test_missing_graph_is_named(copied):
    copied.with_name("tiny.1.onnx").unlink()
    with pytest.raises(ModelError, match=r"tiny\.1\.onnx, found: No such file"):
        make_engine("onnx", find_model(copied), CPU)


def test_damaged_graph_is_refused(copied, bfloat16, caplog):
    bfloat16(False)
    path = copied.with_name("tiny.0.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"tiny\.0\.onnx: expected SHA-256"):
        make_engine("onnx", find_model(copied), CPU)
    assert make_engine("pytorch", find_model(copied), CPU).name == "pytorch-cpu"
    # the weights are whole: auto goes on without the graphs, and says so
    assert make_engine("auto", find_model(copied), CPU).name == "pytorch-cpu"
    (record,) = caplog.records
    assert "tiny.0.onnx: expected SHA-256" in record.getMessage()


@pytest.mark.parametrize("name", ["auto", "pytorch", "tensorrt"])
def test_damaged_weights_are_refused_by_all(copied, name):
    path = copied.with_name("tiny.safetensors")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"tiny\.safetensors: expected SHA-256"):
        make_engine(name, find_model(copied), CPU)


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


GPU = torch.device("cuda")


class Machine:
    """A machine with a GPU, as far as engines are chosen: what each one does when it is loaded."""

    def __init__(self, monkeypatch):
        self.plans: dict[str, Exception | None] = {}
        """Failures of `TensorRTEngine` by the package's name; None where it loads."""
        self.pytorch: Exception | None = None
        """Failure of PyTorch on the GPU."""
        monkeypatch.setattr(tensorrt, "TensorRTEngine", self.load_plans)
        monkeypatch.setattr(pytorch, "PyTorchEngine", self.load_pytorch)

    def load_plans(self, model, device, *, package, precision, build=True):
        error = self.plans.get(package, NotInstalledError(f"{package}: not installed"))
        if error is not None:
            raise error
        engine = PyTorchEngine(model, CPU)
        engine.name = f"{package}-{precision}"
        return engine

    def load_pytorch(self, model, device, **options):
        if device.type == "cpu":
            return PyTorchEngine(model, device, **options)
        if self.pytorch is not None:
            raise self.pytorch
        engine = PyTorchEngine(model, CPU, **options)
        engine.name = "pytorch-cuda"
        return engine


@pytest.fixture
def machine(monkeypatch, bfloat16):
    bfloat16(False)
    return Machine(monkeypatch)


FULL = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


@pytest.mark.parametrize("name", ["auto", "pytorch", "tensorrt"])
@pytest.mark.parametrize(
    "error", [FULL, MemoryError(), EngineError("pytorch: expected a GPU")], ids=["gpu", "cpu", "no"]
)
def test_a_gpu_that_pytorch_can_not_use_leaves_the_cpu(tiny_model, machine, caplog, name, error):
    machine.pytorch = error
    with caplog.at_level(logging.WARNING):
        engine = make_engine(name, find_model(tiny_model()), GPU)
    wanted = name if name == "tensorrt" else "pytorch-cuda"
    assert engine.name == f"onnx-cpu (instead of {wanted})"
    assert engine.device == CPU
    (record,) = caplog.records
    assert record.getMessage() == f"{reason_of(engine)}; {engine.name} is used"
    assert told("pytorch-cuda", error) in reason_of(engine)
    problem, _ = problem_of("kspace", (16, 24), dtype=torch.float32)
    assert engine.run(problem).isfinite().all()


def test_the_cpu_is_used_as_auto_uses_it(tiny_model, machine, bfloat16):
    bfloat16(True)
    machine.pytorch = FULL
    engine = make_engine("auto", find_model(tiny_model()), GPU)
    assert engine.name == "pytorch-cpu-bf16 (instead of pytorch-cuda)"
    engine = make_engine("auto", find_model(tiny_model()), GPU, "fp32")
    assert engine.name == "onnx-cpu (instead of pytorch-cuda)"


def test_what_is_asked_for_has_no_reason(tiny_model, machine, caplog):
    model = find_model(tiny_model())
    with caplog.at_level(logging.WARNING):
        for name in ("auto", "pytorch"):
            engine = make_engine(name, model, GPU)
            assert (engine.name, reason_of(engine)) == ("pytorch-cuda", "")
        machine.plans = {"tensorrt-rtx": None}
        engine = make_engine("auto", model, GPU)
        assert (engine.name, reason_of(engine)) == ("tensorrt-rtx-fp16", "")
    assert not caplog.records
    with pytest.raises(ConfigurationError, match="pytorch has no bf16 on cuda"):
        make_engine("pytorch", model, GPU, "bf16")


@pytest.mark.parametrize("name", ["auto", "pytorch", "tensorrt"])
def test_damaged_graphs_are_no_end_of_the_chain(copied, machine, caplog, name):
    """The CPU's first choice needs them, the weights are whole."""
    copied.with_name("tiny.0.onnx").write_bytes(b"")
    machine.plans = {"tensorrt": ModelError("tiny.0.onnx: expected SHA-256")}
    machine.pytorch = FULL
    with caplog.at_level(logging.WARNING):
        engine = make_engine(name, find_model(copied), GPU)
    wanted = "pytorch-cuda" if name == "pytorch" else "tensorrt"
    assert engine.name == f"pytorch-cpu (instead of {wanted})"
    assert "tiny.0.onnx: expected SHA-256" in caplog.text


@pytest.mark.parametrize(
    "error",
    [NoMemoryError("tensorrt: no memory to run 0"), FULL, TypeError("incompatible arguments")],
    ids=lambda error: type(error).__name__,
)
def test_plans_that_fail_under_auto_are_told_and_stood_in_for(tiny_model, machine, caplog, error):
    machine.plans = {"tensorrt": error, "tensorrt-rtx": NoPlansError("rtx: found none")}
    with caplog.at_level(logging.WARNING):
        engine = make_engine("auto", find_model(tiny_model()), GPU)
    assert engine.name == "pytorch-cuda (instead of tensorrt)"
    assert reason_of(engine) == f"{told('tensorrt', error)}; rtx: found none"
    machine.plans["tensorrt-rtx"] = None
    caplog.clear()
    engine = make_engine("auto", find_model(tiny_model()), GPU)
    assert engine.name == "tensorrt-rtx-fp16"
    assert told("tensorrt", error) in caplog.text


def test_auto_warns_where_only_the_plans_are_missing(tiny_model, machine, caplog):
    """An upgrade of TensorRT must not make the network slower in silence."""
    machine.plans = {"tensorrt": NoPlansError("tensorrt-fp16: expected plans, found none")}
    with caplog.at_level(logging.WARNING):
        engine = make_engine("auto", find_model(tiny_model()), GPU)
    assert (engine.name, reason_of(engine)) == ("pytorch-cuda", "")
    (record,) = caplog.records
    assert "tensorrt-fp16: expected plans, found none; meanwhile PyTorch" in record.getMessage()
    with pytest.raises(EngineError, match=r"plans of precision fp16 .*expected plans, found none"):
        make_engine("auto", find_model(tiny_model()), GPU, "fp16")


def test_a_package_that_is_broken_is_told_under_auto(tiny_model, machine, caplog):
    machine.plans = {"tensorrt": EngineError("tensorrt: libnvinfer.so.10: cannot open")}
    with caplog.at_level(logging.WARNING):
        engine = make_engine("auto", find_model(tiny_model()), GPU)
    assert engine.name == "pytorch-cuda (instead of tensorrt)"
    assert "libnvinfer.so.10" in caplog.text


def test_plans_that_fail_in_a_scan_have_a_spare(tiny_model, machine):
    machine.plans = {"tensorrt": None}
    engine = make_engine("tensorrt", find_model(tiny_model()), GPU)
    problem, _ = problem_of("kspace", (16, 24), dtype=torch.float32)

    def fail(problem: Problem) -> torch.Tensor:
        raise AttributeError("'NoneType' object has no attribute 'execute_async_v3'")

    assert isinstance(engine, WithSpare)
    engine._engine.run = fail
    assert engine.run(problem).isfinite().all()
    assert engine.name == "pytorch-cuda (instead of tensorrt-fp16)"
    assert "execute_async_v3" in reason_of(engine)


def test_a_package_that_is_missing_is_told_apart_from_one_that_is_broken(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(NotInstalledError):
        load_package("tensorrt")
    monkeypatch.delitem(sys.modules, "tensorrt")
    (tmp_path / "tensorrt.py").write_text("import tensorrt_libs_that_are_not_here")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EngineError, match="tensorrt_libs_that_are_not_here") as caught:
        load_package("tensorrt")
    assert not isinstance(caught.value, NotInstalledError)
