import logging

import pytest
import torch

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

    def __init__(self, engine: Engine, runs: int) -> None:
        self.engine, self.runs = engine, runs
        self.name, self.card, self.device = "tensorrt-fp16", engine.card, engine.device

    def run(self, problem: Problem) -> torch.Tensor:
        self.runs -= 1
        if self.runs < 0:
            raise EngineError("tensorrt: 0 failed: out of memory")
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
    with pytest.raises(EngineError, match="out of memory; by another engine: CUDA error: device"):
        engine.run(problem)
    assert engine.name == "tensorrt-fp16"
