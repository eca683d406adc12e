"""The benchmarks of precisions and of the GPU run, the latter rehearsed on the CPU."""

import argparse
import importlib
import json
import sys
from types import SimpleNamespace

import pytest
import torch

from chpnet_stream.benchmark.plan import Case
from chpnet_stream.benchmark.scan_bytes import ScanBytes
from chpnet_stream.engines.onnx import OnnxEngine
from chpnet_stream.errors import EngineError
from chpnet_stream.network.weights import find_model
from tests.benchmarks.test_tables import CHECKOUT, numbers, run


def test_precision(tmp_path):
    out = tmp_path / "precision.md"
    words = ["--slices", 1, "--matrix", 48, "--timed-matrix", 48, "--coils", 2, "--repeats", 2]
    run("precision.py", *words, "--data", tmp_path / "none", "--out", out)
    text = out.read_text()
    full, work, less, output, lost, worst = numbers(text, "| onnx | fp32 |")
    assert full > 0
    assert work > 0
    assert less == 1.0
    assert output > 90
    assert abs(lost) <= abs(worst) < 0.005
    eight = numbers(text, "| onnx | int8 |")
    assert 15 < eight[3] < 60
    bfloat16 = numbers(text, "| pytorch | bf16 |")
    assert eight[3] < bfloat16[3] < output
    assert str(CHECKOUT) not in text


def test_the_gpu_s_benchmark_is_rehearsed(tmp_path):
    out = tmp_path / "gpu.md"
    words = ["--device", "cpu", "--cases", "4x48", "--repeats", 4, "--warm-up", 1]
    words += ["--engines", "pytorch eager fp32", "pytorch bf16", "tensorrt-rtx fp16"]
    run("gpu.py", *words, "--slices", 1, "--matrix", 48, "--out", out)
    rows = {row["engine"]: row for row in json.loads(out.with_suffix(".json").read_text())["rows"]}
    eager = rows["pytorch eager fp32"]
    assert 0 < eager["p50 ms"] <= eager["p95 ms"] <= eager["p99 ms"] <= eager["max ms"]
    assert 0 < eager["whole p50 ms"] <= eager["whole p99 ms"]
    assert eager["device MB"] is None
    assert eager["faster than eager"] == 1.0
    assert eager["output dB"] > 90
    assert rows["pytorch bf16"]["output dB"] > 50
    assert rows["tensorrt-rtx fp16"]["note"].startswith("not run: tensorrt-rtx: expected ")
    assert "| 4 | 48 | pytorch bf16 |" in out.read_text()


def test_an_engine_that_breaks_costs_no_other_row(tmp_path):
    """What TensorRT of an unknown version may raise: here a package of another make."""
    (tmp_path / "tensorrt.py").write_text("class ILogger: ...\n")
    out = tmp_path / "gpu.md"
    words = ["--device", "cpu", "--cases", "2x48", "2x56", "--repeats", 2, "--warm-up", 1]
    words += ["--engines", "tensorrt fp16", "pytorch eager fp32", "--slices", 1, "--matrix", 48]
    run("gpu.py", *words, "--out", out, PYTHONPATH=str(tmp_path))
    rows = json.loads(out.with_suffix(".json").read_text())["rows"]
    broken = "not run: module 'tensorrt' has no attribute '__version__'"
    assert [row["note"] for row in rows] == [broken, "", broken, ""]
    assert [bool(row["p50 ms"]) for row in rows] == [False, True, False, True]


@pytest.fixture
def gpu(monkeypatch):
    """The program, as a module."""
    monkeypatch.syspath_prepend(str(CHECKOUT / "benchmarks"))
    yield importlib.import_module("gpu")
    for name in ("gpu", "report"):
        sys.modules.pop(name, None)


def test_slices_come_line_by_line_into_a_live_session(gpu, monkeypatch):
    onnx = OnnxEngine(find_model("chpnet-rt"))
    fed, feed = [], gpu._feed

    def counted(session, line):
        fed.append(session.reconstructor.apart)
        return feed(session, line)

    monkeypatch.setattr(gpu, "_feed", counted)
    options = argparse.Namespace(warm_up=1, repeats=2, line_ms=1.0)
    scan = ScanBytes(Case(32, 2))
    found = gpu._streamed(onnx, scan, options)
    assert set(found) == {"cold ms", "p50 ms", "p95 ms", "p99 ms", "max ms"}
    assert fed == [True] * 4 * scan.lines


def test_images_by_another_engine_have_no_row(gpu):
    onnx = OnnxEngine(find_model("chpnet-rt"))

    def run_by_spare(problem):
        spare.name = "onnx-cpu (instead of tensorrt-fp16)"
        return onnx.run(problem)

    class Spare(SimpleNamespace):
        __hash__ = object.__hash__  # as engines have

    spare = Spare(name="tensorrt-fp16", card=onnx.card, device=onnx.device, run=run_by_spare)
    options = argparse.Namespace(warm_up=0, repeats=1, line_ms=0.0)
    with pytest.raises(EngineError, match=r"by tensorrt-fp16, found one by onnx-cpu \(instead of"):
        gpu._streamed(spare, ScanBytes(Case(32, 2)), options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_its_table_says_so(tmp_path):
    out = tmp_path / "gpu.md"
    run("gpu.py", "--out", out)
    assert "**Not measured**" in out.read_text()
    out.write_text("numbers of a GPU")
    assert "stays as it is" in run("gpu.py", "--out", out).stdout
    assert out.read_text() == "numbers of a GPU"
