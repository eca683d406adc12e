"""`chpnet-train compile` on the machine of the GPU: the plans themselves are measured.

The GPU and TensorRT are stood for by the CPU and ONNX Runtime (`tests.engines.fake_tensorrt`).
"""

import sys

import pytest
import torch

from chpnet_stream.engines.plan_key import PlanShape, PlanShapes
from chpnet_stream.engines.tensorrt import TensorRTEngine, find_plans, plan_key
from chpnet_stream.engines.tensorrt_package import load_package
from chpnet_stream.errors import ConfigurationError, EngineError
from chpnet_stream.network.weights import find_model
from chpnet_training import compilation
from chpnet_training.compilation import Compiled, compile_model, example_shape
from chpnet_training.parity import measure_parity, simulated_examples
from tests.engines.fake_tensorrt import FakeTensorRT, fake_gpu

SMALL = PlanShapes.parse("1x64x64", "1x64x64", "2x64x80", 8)
CPU = torch.device("cpu")


@pytest.fixture
def trt(monkeypatch, tmp_path):
    """A machine with an sm_86 and TensorRT."""
    module = FakeTensorRT()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setenv("CHPNET_PLAN_CACHE", str(tmp_path / "cache"))
    fake_gpu(monkeypatch)
    monkeypatch.setattr(compilation, "this_gpu", lambda: "sm_86")
    monkeypatch.setattr(compilation, "TensorRTEngine", on_the_cpu)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    return module


def on_the_cpu(model, device, **options):
    assert device.type == "cuda"
    return TensorRTEngine(model, CPU, **options)


def compiled(model, out, examples, shapes=SMALL, precision="fp16") -> Compiled:
    return compile_model(
        model,
        out,
        package=load_package("tensorrt"),
        target="sm_86",
        precision=precision,
        shapes=shapes,
        examples=lambda: examples,
        calibration=list,
    )


@pytest.fixture
def model(tiny_model):
    return find_model(tiny_model())


@pytest.fixture(scope="module")
def examples():
    return simulated_examples("kspace", 2, matrix=64)


def test_the_plans_are_measured_and_kept(model, trt, examples, tmp_path):
    made = compiled(model, tmp_path / "out", examples)
    assert made.record.measured_on == "the plans on a GPU"
    assert made.parity.output_db > 60
    assert len(trt.loads) == 2
    assert made.cached
    found = find_model(made.card)
    found.verify()
    key = plan_key(found, load_package("tensorrt"), "sm_86", "fp16", SMALL)
    beside = find_plans(found, key, tmp_path / "nothing here")
    assert beside == find_plans(model, key)
    assert beside is not None
    engine = TensorRTEngine(found, CPU, build=False, cache=tmp_path / "nothing here")
    assert engine.shapes == SMALL  # as of the plans beside the card
    assert len(trt.builds) == 2
    # again: TensorRT gives other bytes, and those of before are gone
    again = compiled(model, tmp_path / "out", examples)
    assert len(find_model(made.card).card.plans) == 1
    find_model(made.card).verify()
    assert not {n for n in made.record.files if (tmp_path / "out" / n).exists()}
    assert all((tmp_path / "out" / name).exists() for name in again.record.files)


def test_images_that_the_plans_can_not_make_are_refused_before_anything_is_compiled(
    model, trt, tmp_path
):
    outside = simulated_examples("kspace", 1, matrix=96)
    with pytest.raises(ConfigurationError, match=r"slice of 96 x 96 \(batch 1\) .* to 2x64x80"):
        compiled(model, tmp_path / "out", outside)
    assert trt.builds == []
    assert not (tmp_path / "out").exists()


def test_parity_of_another_engine_is_none(model, trt, tmp_path):
    engine = TensorRTEngine(model, CPU, shapes=SMALL)
    with pytest.raises(EngineError, match=r"made by pytorch-cpu \(instead of tensorrt-fp16\)"):
        measure_parity(model, engine, simulated_examples("kspace", 1, matrix=96))


def test_a_cache_that_can_not_be_written_costs_no_plans(
    model, trt, examples, tmp_path, monkeypatch, caplog
):
    (tmp_path / "full").write_text("")
    monkeypatch.setenv("CHPNET_PLAN_CACHE", str(tmp_path / "full"))
    made = compiled(model, tmp_path / "out", examples)
    assert not made.cached
    find_model(made.card).verify()
    assert "the plans are beside the card only: " in caplog.text


def test_a_folder_that_others_can_write_to_is_told_beforehand(
    model, trt, examples, tmp_path, caplog
):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o775)
    compiled(model, out, examples)
    said = f"{out}: plans there would not be used: its group can write to its folder; chmod g-w it"
    assert caplog.records[0].message == said


@pytest.mark.parametrize(
    ("shapes", "matrix", "found"),
    [
        (("1x64x64", "1x256x256", "4x512x512"), None, "1x192x192"),
        (("1x256x256", "1x256x256", "1x256x256"), None, "1x256x256"),
        (("2x64x96", "2x96x96", "4x128x160"), None, "2x128x160"),
        (("1x252x300", "1x252x300", "1x252x300"), None, "1x252x300"),
        (("1x64x64", "1x256x256", "4x512x512"), 320, "1x320x320"),
    ],
)
def test_images_are_simulated_inside_the_shapes(shapes, matrix, found):
    assert example_shape(PlanShapes.parse(*shapes), matrix, 4) == PlanShape.parse(found)


@pytest.mark.parametrize("task", ["kspace", "superres"])
def test_simulated_images_have_the_shape_that_is_wanted(task):
    shape = PlanShape(3, 48, 66)
    examples = simulated_examples(task, 4, matrix=shape)
    assert len(examples) == 2
    for example in examples:
        channels = 1 if task == "superres" else 2
        assert example.problem.start.shape == (3, channels, 48, 66)
        assert example.target.shape == example.problem.start.shape
        error = (example.problem.start - example.target).norm() / example.target.norm()
        assert 0 < error < 0.6
        if task == "superres":  # the cut of an image is measured as the image was
            again = example.problem.normal(example.target)
            assert (again - example.problem.adjoint).norm() < 0.2 * again.norm()
