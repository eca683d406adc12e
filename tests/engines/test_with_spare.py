import gc
import logging
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from chpnet_stream.deadline import TooLateError
from chpnet_stream.engines.engine import Engine, Problem
from chpnet_stream.engines.onnx import OnnxEngine
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.engines.with_spare import WithSpare
from chpnet_stream.errors import EngineError
from chpnet_stream.network.weights import find_model
from tests.network.problems import problem_of

CPU = torch.device("cpu")


class Failing:
    """A real engine that fails from a certain run on."""

    def __init__(self, engine: Engine, runs: int, error: Exception | None = None) -> None:
        self.engine, self.runs = engine, runs
        self.error = error or EngineError("tensorrt: 0 failed: out of memory")
        self.name, self.card, self.device = "tensorrt-fp16", engine.card, engine.device

    def run(self, problem: Problem) -> torch.Tensor:
        self.runs -= 1
        if self.runs < 0:
            raise type(self.error)(*self.error.args)
        return self.engine.run(problem)


@pytest.fixture
def model(tiny_model):
    return find_model(tiny_model())


@pytest.fixture
def problem():
    return problem_of("kspace", (16, 24), dtype=torch.float32)[0]


def test_another_takes_over_for_good_and_it_is_told_once(model, problem, caplog):
    made = []
    first = Failing(OnnxEngine(model), runs=1)
    engine = WithSpare(first, lambda: made.append(1) or PyTorchEngine(model, CPU))
    wanted = engine.run(problem)
    assert (engine.name, made) == ("tensorrt-fp16", [])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            torch.testing.assert_close(engine.run(problem), wanted, rtol=1e-4, atol=1e-5)
    assert engine.name == "pytorch-cpu (instead of tensorrt-fp16)"
    assert made == [1]
    assert first.runs == -1  # it is not asked again
    (record,) = caplog.records
    said = "tensorrt: 0 failed: out of memory; pytorch-cpu (instead of tensorrt-fp16) is used"
    assert record.getMessage() == f"{said} from now on"


def test_a_problem_that_nobody_can_do_is_not_the_engine_s_fault(model, problem, caplog):
    engine = WithSpare(OnnxEngine(model), lambda: PyTorchEngine(model, CPU))
    wrong, _ = problem_of("superres", (16, 24), dtype=torch.float32)
    with pytest.raises(EngineError, match=r"onnx-cpu: .*; by another engine: pytorch-cpu: "):
        engine.run(wrong)
    assert engine.run(problem).isfinite().all()
    assert engine.name == "onnx-cpu"
    assert not caplog.records


def test_a_spare_that_can_not_be_loaded_is_told(model, problem):
    def gone() -> Engine:
        raise RuntimeError("CUDA error: device lost")

    engine = WithSpare(Failing(OnnxEngine(model), runs=0), gone)
    said = "out of memory; by another engine: pytorch: RuntimeError: CUDA error: device"
    with pytest.raises(EngineError, match=said):
        engine.run(problem)
    assert engine.name == "tensorrt-fp16"
    assert engine.reason == ""


def test_a_spare_that_can_not_be_loaded_is_not_loaded_for_every_slice(model, problem):
    calls = []

    def full() -> Engine:
        calls.append(failing.runs)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    failing = Failing(OnnxEngine(model), runs=0)
    engine = WithSpare(failing, full)
    for _ in range(16):
        with pytest.raises(EngineError, match=r"another engine: pytorch: .*CUDA out of memory"):
            engine.run(problem)
    assert calls == [-1, -2, -4, -8, -16]
    failing.runs = 1  # what was wrong has passed: the engine has the work again
    assert engine.run(problem).isfinite().all()
    assert engine.name == "tensorrt-fp16"


def test_a_spare_that_can_not_do_a_problem_is_kept(model, problem, caplog):
    made = []
    failing = Failing(OnnxEngine(model), runs=0)
    engine = WithSpare(failing, lambda: made.append(1) or PyTorchEngine(model, CPU))
    wrong, _ = problem_of("superres", (16, 24), dtype=torch.float32)
    for _ in range(3):
        with pytest.raises(EngineError, match=r"out of memory; by another engine: pytorch-cpu: "):
            engine.run(wrong)
    assert made == [1]
    assert not caplog.records


@pytest.mark.parametrize(
    "error",
    [
        TypeError("execute_async_v3(): incompatible function arguments"),
        AttributeError("'NoneType' object has no attribute 'set_input_shape'"),
        ValueError("invalid enum value"),
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_foreign_libraries_raise_is_no_lost_slice(model, problem, caplog, error):
    engine = WithSpare(
        Failing(OnnxEngine(model), runs=0, error=error), lambda: PyTorchEngine(model, CPU)
    )
    assert engine.run(problem).isfinite().all()
    assert engine.reason.startswith(f"tensorrt-fp16: {type(error).__name__}: ")
    assert engine.reason in caplog.text


class Broken(Failing):
    """An engine whose images are no numbers."""

    def run(self, problem: Problem) -> torch.Tensor:
        return super().run(problem) * float("nan")


def test_a_first_image_that_is_not_finite_is_a_failure(model, problem, caplog):
    engine = WithSpare(Broken(OnnxEngine(model), runs=9), lambda: PyTorchEngine(model, CPU))
    for _ in range(2):
        assert engine.run(problem).isfinite().all()
        assert engine.name == "pytorch-cpu (instead of tensorrt-fp16)"
    assert engine.reason == "tensorrt-fp16: found an image of NaN or infinite pixels"
    (record,) = caplog.records
    assert record.getMessage().startswith(engine.reason)


def test_where_the_other_s_is_not_finite_either_it_is_not_the_engine(model, problem, caplog):
    broken = Broken(OnnxEngine(model), runs=9)
    engine = WithSpare(broken, lambda: Broken(PyTorchEngine(model, CPU), runs=9))
    for _ in range(3):
        assert engine.run(problem).isnan().all()
    assert engine.name == "tensorrt-fp16"
    assert (engine.reason, broken.runs) == ("", 6)
    assert not caplog.records


def test_the_deadline_s_own_error_is_no_failure(model, problem):
    engine = WithSpare(
        Failing(OnnxEngine(model), runs=0, error=TooLateError()), lambda: PyTorchEngine(model, CPU)
    )
    with pytest.raises(TooLateError):
        engine.run(problem)
    assert engine.name == "tensorrt-fp16"


def test_memory_of_an_engine_that_failed_is_let_go(model, problem):
    """At once, not when Python next looks for cycles."""
    failing = Failing(OnnxEngine(model), runs=1)
    gone = weakref.ref(failing)
    engine = WithSpare(failing, lambda: PyTorchEngine(model, CPU))
    del failing
    gc.disable()
    try:
        engine.run(problem)
        assert gone() is not None
        engine.run(problem)
        assert gone() is None
    finally:
        gc.enable()


def test_every_thread_is_told_what_made_its_own_image(model, problem):
    engine = WithSpare(Failing(OnnxEngine(model), runs=1), lambda: PyTorchEngine(model, CPU))

    def names() -> list[str]:
        before = engine.name
        engine.run(problem)
        return [before, engine.name]

    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        taken = "pytorch-cpu (instead of tensorrt-fp16)"
        assert one.submit(names).result() == ["tensorrt-fp16", "tensorrt-fp16"]
        assert two.submit(names).result() == ["tensorrt-fp16", taken]
        assert one.submit(lambda: engine.name).result() == "tensorrt-fp16"  # its last image's
        assert engine.name == taken  # a thread that has run nothing yet
        assert one.submit(names).result() == ["tensorrt-fp16", taken]


def test_threads_that_fail_at_once_load_one_spare(model, problem):
    made = []
    together = threading.Barrier(3, timeout=60)

    class Both(Failing):
        def run(self, problem: Problem) -> torch.Tensor:
            together.wait()
            return super().run(problem)

    def make() -> Engine:
        made.append(1)
        return PyTorchEngine(model, CPU)

    engine = WithSpare(Both(OnnxEngine(model), runs=0), make)
    with ThreadPoolExecutor(3) as threads:
        images = list(threads.map(engine.run, [problem] * 3))
    assert made == [1]
    assert all(torch.equal(image, images[0]) for image in images)
