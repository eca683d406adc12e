"""Real plans of the shipped model, compiled by TensorRT for RTX without a GPU."""

import pytest

from chpnet_stream.engines.half import half_graph
from chpnet_stream.engines.plan_builder import PlanBuilder, timing_file
from chpnet_stream.engines.plan_key import PlanShapes
from chpnet_stream.engines.tensorrt_package import load_package
from chpnet_stream.errors import EngineError
from chpnet_stream.network.weights import find_model

DYNAMIC = PlanShapes.parse("1x64x64", "1x256x256", "4x512x512", 8)
STATIC = PlanShapes.parse("1x256x256", "1x256x256", "1x256x256", 8)


@pytest.fixture(scope="module")
def graphs():
    """Graphs of the shipped model, float32."""
    return [content for _, content in find_model("chpnet-rt").graphs()]


@pytest.mark.parametrize("shapes", [STATIC, DYNAMIC], ids=["static", "dynamic"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_shipped_model_compiles(rtx, graphs, precision, shapes):
    content = half_graph(graphs[1]) if precision == "fp16" else graphs[1]
    plan = PlanBuilder(rtx, "sm_86", shapes, fold=2).build("chpnet-rt.1.onnx", content)
    assert len(plan) > 1_000_000  # 0.7 million weights
    assert rtx.complaint() == ""


def test_half_precision_makes_the_plan_smaller(rtx, graphs):
    builder = PlanBuilder(rtx, "sm_89", STATIC, fold=2)
    full = builder.build("full", graphs[0])
    half = builder.build("half", half_graph(graphs[0]))
    assert len(half) < 0.75 * len(full)


def test_targets_have_plans_of_their_own(rtx, graphs):
    plans = [
        PlanBuilder(rtx, target, STATIC, fold=2).build("0", graphs[0])
        for target in ("sm_75", "sm_120")
    ]
    assert plans[0] != plans[1]


def test_a_target_it_does_not_know(rtx, graphs):
    with pytest.raises(EngineError, match=r"no target sm_90; it has sm_75 sm_80"):
        PlanBuilder(rtx, "sm_90", STATIC, fold=2).build("0", graphs[0])


def test_words_of_the_parser_are_quoted(rtx):
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("DFT", ["x", ""], ["image"], axis=1)
    shape = [1, 8, 2]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    builder = PlanBuilder(rtx, "sm_86", STATIC)
    with pytest.raises(EngineError, match=r"can't parse dft\.onnx: .*DFT") as caught:
        builder.build("dft.onnx", model.SerializeToString())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_what_is_no_graph(rtx, content):
    with pytest.raises(EngineError, match=r"x\.onnx"):
        PlanBuilder(rtx, "sm_86", STATIC).build("x.onnx", content)


def test_a_wrong_fold_is_refused_by_the_compiler(rtx, graphs):
    """State at the wrong resolution: no plan that fails in a scan."""
    with pytest.raises(EngineError, match="can't compile 0 for sm_86"):
        PlanBuilder(rtx, "sm_86", STATIC, fold=1).build("0", graphs[0])


def test_nothing_is_timed_without_a_gpu(rtx, graphs, tmp_path):
    file = timing_file(tmp_path / "plans", rtx, "sm_86")
    assert file.name == f"timings-tensorrt-rtx-{rtx.version}-sm_86.cache"
    PlanBuilder(rtx, "sm_86", STATIC, fold=2, timings=file).build("0", graphs[0])
    assert not file.exists()


def test_a_package_that_is_not_installed(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match=r"expected the package tensorrt.*stream\[tensorrt\]'$"):
        load_package("tensorrt")


def test_a_package_that_is_too_old(monkeypatch, rtx):
    monkeypatch.setattr(rtx.module, "__version__", "0.9")
    with pytest.raises(EngineError, match=r"expected version 1 or newer, found 0\.9"):
        load_package("tensorrt-rtx")
