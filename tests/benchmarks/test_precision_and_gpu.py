"""The benchmarks of precisions and of the GPU run, the latter rehearsed on the CPU."""

import json

import pytest
import torch

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


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_its_table_says_so(tmp_path):
    out = tmp_path / "gpu.md"
    run("gpu.py", "--out", out)
    assert "**Not measured**" in out.read_text()
    out.write_text("numbers of a GPU")
    assert "stays as it is" in run("gpu.py", "--out", out).stdout
    assert out.read_text() == "numbers of a GPU"
