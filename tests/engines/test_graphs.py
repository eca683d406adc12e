"""Graphs in the place of denoisers: units, threads, and what is damaged."""

from dataclasses import replace

import pytest
import torch

from chpnet_stream.engines.onnx import OnnxEngine
from chpnet_stream.engines.processor import cores
from chpnet_stream.network.weights import find_model
from tests.network.models import ARCHITECTURES
from tests.network.problems import problem_of


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("unit", [2.0**20, 2.0**-20])
def test_half_precision_does_not_depend_on_units(tiny_model, architecture, unit):
    """A million times brighter, beyond 65504, is the same image a million times brighter."""
    engine = OnnxEngine(find_model(tiny_model(architecture)), precision="fp16")
    problem, _ = problem_of("kspace", (16, 24), 2, sigma=0.05, dtype=torch.float32)
    parts = {name: unit * getattr(problem, name) for name in ("start", "adjoint", "noise")}
    expected = unit * engine.run(problem)
    found = engine.run(replace(problem, **parts))
    assert found.isfinite().all()
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_an_image_of_zeros_stays_one(tiny_model):
    engine = OnnxEngine(find_model(tiny_model()), precision="fp16")
    problem, _ = problem_of("kspace", (16, 24), dtype=torch.float32)
    parts = {name: 0 * getattr(problem, name) for name in ("start", "adjoint", "noise")}
    assert engine.run(replace(problem, **parts)).abs().max() == 0


def test_openvino_takes_as_many_threads_as_it_is_told(tiny_model):
    pytest.importorskip("openvino", reason="no openvino (chpnet-stream[openvino])")
    from chpnet_stream.engines.openvino import OpenVinoEngine

    for threads in range(1, min(2, cores()) + 1):  # it takes no more than there are cores
        engine = OpenVinoEngine(find_model(tiny_model()), threads)
        (graph, *_) = (d.graph for d in engine.student.denoisers)
        assert graph.compiled.get_property("INFERENCE_NUM_THREADS") == threads


def test_one_engine_for_several_threads(tiny_model):
    """Scans of a server share engines."""
    from concurrent.futures import ThreadPoolExecutor

    pytest.importorskip("openvino", reason="no openvino (chpnet-stream[openvino])")
    from chpnet_stream.engines.openvino import OpenVinoEngine

    model = find_model(tiny_model())
    problems = [problem_of("kspace", (16, 16 + 8 * i), dtype=torch.float32)[0] for i in range(4)]
    for engine in (OpenVinoEngine(model), OnnxEngine(model)):
        alone = [engine.run(problem) for problem in problems]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(engine.run, problems * 4))
        for i, image in enumerate(together):
            assert torch.equal(image, alone[i % 4])
