"""One problem on every engine: each agrees with the float64 reference in PyTorch.

Tolerances, of the reference's largest magnitude: 1e-5 for float32 arithmetic (measured: 7e-7) and
0.03 for bfloat16 (measured: 0.008; the random weights of these networks change the image a lot).
"""

from dataclasses import replace

import pytest
import torch

from chpnet_stream.engines.allowed import ALLOWED
from chpnet_stream.engines.choice import make_engine
from chpnet_stream.engines.engine import Problem
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.network.weights import find_model
from tests.network.models import ARCHITECTURES, TASKS
from tests.network.problems import problem_of

TOLERANCE = {"fp32": 1e-5, "bf16": 0.03}
CPU = torch.device("cpu")
ON_CPU = [
    (row.engine, row.precision)
    for row in ALLOWED
    if "cpu" in row.targets and row.precision in TOLERANCE
]
"""int8 needs graphs that are calibrated: `tests/training/test_quantize.py`."""
SHAPES = {
    "kspace": [(32, 24), (33, 47), (13, 10)],
    "superres": [(32, 24), (34, 46), (6, 10)],  # divisible by the factor
}
CASES = [
    pytest.param(architecture, task, shape, id=f"{architecture}-{task}-{shape[0]}x{shape[1]}")
    for architecture in ARCHITECTURES
    for task in TASKS
    for shape in SHAPES[task]
]


def largest_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("name", "precision"), ON_CPU)
@pytest.mark.parametrize(("architecture", "task", "shape"), CASES)
def test_engine_agrees_with_the_reference(
    tiny_model, name, precision, architecture, task, shape, batch
):
    if name == "openvino":
        pytest.importorskip("openvino", reason="no openvino (chpnet-stream[openvino])")
    model = find_model(tiny_model(architecture, task))
    exact, _ = problem_of(task, shape, batch, sigma=0.05)
    single, _ = problem_of(task, shape, batch, sigma=0.05, dtype=torch.float32)
    expected = PyTorchEngine(model, CPU, torch.float64).run(exact)
    engine = make_engine(name, model, CPU, precision)
    found = engine.run(single)
    assert found.dtype == torch.float32
    assert found.device == engine.device
    assert largest_error(found, expected) < TOLERANCE[precision]
    # the network did something that an engine without weights would miss
    assert largest_error(exact.start, expected) > 0.02


@pytest.mark.parametrize("name", ["pytorch", "onnx", "openvino"])
def test_an_engine_can_run_again_with_another_size(tiny_model, name):
    engine = make_engine(name, find_model(tiny_model()), CPU, "fp32")
    runs = [problem_of("kspace", s, dtype=torch.float32)[0] for s in ((16, 24), (9, 40))]
    first = [engine.run(problem) for problem in runs]
    again = [engine.run(problem) for problem in runs]
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", ["pytorch", "onnx", "openvino"])
def test_inputs_are_left_alone(tiny_model, name):
    problem, _ = problem_of("kspace", (16, 24), dtype=torch.float32)
    copies = [t.clone() for t in (problem.start, problem.adjoint, problem.noise)]
    make_engine(name, find_model(tiny_model()), CPU, "fp32").run(problem)
    for tensor, copy in zip((problem.start, problem.adjoint, problem.noise), copies, strict=True):
        assert torch.equal(tensor, copy)


@pytest.mark.parametrize("name", ["pytorch", "onnx", "openvino"])
def test_memory_layout_of_the_inputs_does_not_matter(tiny_model, name):
    engine = make_engine(name, find_model(tiny_model()), CPU, "fp32")
    problem, _ = problem_of("kspace", (16, 24), 2, dtype=torch.float32)
    strided: Problem = replace(
        problem,
        start=problem.start.to(memory_format=torch.channels_last),
        adjoint=problem.adjoint.mT.contiguous().mT,
    )
    assert largest_error(engine.run(strided), engine.run(problem).double()) < 1e-6
