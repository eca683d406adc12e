"""`chpnet-stream bench`, at its smallest."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def bench(*words: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chpnet_stream", "bench", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


TINY = ("--engine", "onnx", "--matrix", "32", "--coils", "2", "--slices", "2", "--threads", "1")


def test_tables_of_a_tiny_run(tmp_path: Path) -> None:
    out = tmp_path / "bench.md"
    numbers = out.with_suffix(".json")
    picture = out.with_suffix(".png")
    files = [word for file in (out, numbers, picture) for word in ("--out", str(file))]
    done = bench(*TINY, "--rate", "0", "--json", *files)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (row,) = told["streamed"]
    assert row["engine"] == "onnx-cpu"
    assert (row["coils"], row["matrix"], row["slices"]) == (2, 32, 2)
    assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"] <= row["max_ms"]
    assert row["per_second"] > 0
    assert row["peak_mb"] > 50
    assert row["device_mb"] is None
    assert set(row["stages_ms"]) >= {"calibration", "data", "start", "network", "checks", "output"}
    assert sum(row["methods"].values()) == 1 + 2 + 8
    assert row["fallbacks"] == 0
    assert row["load"] >= 0
    others = {(r["what"], r["part"]): r for r in told["references"]}
    paper = others["paper-size student, PyTorch eager", "network"]
    assert paper["faster_than_paper_size"] == 1
    ours = {part: others["chpnet-rt, onnx", part]["ms"] for part in ("network", "image")}
    conventional = others["CG-SENSE of chpnet-stream", "image"]["ms"]
    floor = others["FFT + RSS of the gadgetron package's example", "gadget"]["ms"]
    (compared,) = told["ratios"]
    assert compared["paper_size"] == pytest.approx(paper["ms"] / ours["network"])
    assert compared["onnx_runtime"] == 1  # it is what was measured
    assert compared["cg_sense"] == pytest.approx(conventional / ours["image"])
    assert compared["fft_rss_gadget"] == pytest.approx(floor / row["p50_ms"])
    bart = others["BART pics", "image"]
    if shutil.which("bart"):
        assert compared["bart_pics"] == pytest.approx(bart["ms"] / ours["image"])
    else:
        assert (compared["bart_pics"], bart["why"]) == (None, "bart is not installed")
    versions = told["machine"]["versions"]
    assert versions["torch"]
    assert ("bart" in versions) == bool(shutil.which("bart"))
    assert told["model"].startswith("chpnet-rt ")
    assert told["failed"] == {}
    assert json.loads(numbers.read_text())["ratios"] == told["ratios"]
    page = out.read_text()
    assert "`chpnet-stream bench --engine onnx --matrix 32 --coils 2 --slices 2 --rate 0" in page
    assert "| 2 | 32 | onnx-cpu | 2 |" in page
    assert f"Model: {told['model']}." in page
    assert done.stderr.startswith("about 10 s for 32 images\n2 coils, 32 x 32, onnx-cpu (1 of 32 ")
    assert row["engines"] == {"onnx-cpu": 1 + 2 + 8}
    assert "| coils | matrix | engine | paper size | onnx runtime | cg sense | bart pics |" in page
    assert str(tmp_path) not in page
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--engine", "onxx"), "no engine 'onxx'; did you mean 'onnx'"),
        (("--engine", "onnx:fp23"), "no precision 'fp23'"),
        ((*TINY, "--out", "bench.txt"), "expected a file that ends in .md (tables), .json (ev"),
        (
            (*TINY[2:], "--engine", "tensorrt"),
            "none of the engines tensorrt can be used here (tensorrt: expected ",
        ),
        ((*TINY, "--model", "nothing"), "nothing"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: tuple[str, ...], said: str) -> None:
    import torch

    if "tensorrt" in words and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = bench(*words)
    assert done.returncode != 0
    assert said in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_an_existing_file_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    out.write_text("{}")
    done = bench(*TINY, "--out", str(out))
    assert done.returncode != 0
    assert "--overwrite" in done.stderr
    assert out.read_text() == "{}"


def test_a_missing_folder_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    done = bench(*TINY, "--out", str(tmp_path / "none" / "bench.md"))
    assert done.returncode == 2
    assert "none to write bench.md to; make it first" in " ".join(done.stderr.split())
