"""Other methods that fail cost only themselves."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chpnet_stream.benchmark import references
from chpnet_stream.benchmark.plan import Case
from chpnet_stream.benchmark.references import CG_SENSE, measure_references
from chpnet_stream.benchmark.scan_bytes import ScanBytes
from chpnet_stream.engines.onnx import OnnxEngine
from chpnet_stream.network.weights import find_model


@pytest.fixture(scope="module")
def scan() -> ScanBytes:
    return ScanBytes(Case(32, 2))


def bart(scan: ScanBytes) -> dict[str, Any]:
    rows = measure_references(scan, {}, find_model("chpnet-rt"), 1)
    (cg,) = (row for row in rows if row["by"] == CG_SENSE)
    assert cg["ms"] > 0
    return rows[-1]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exec sleep 600", "bart had no image within 0.5 s"),
        ("echo no memory >&2; exit 3", "bart ended with status 3: no memory"),
    ],
)
def test_a_bart_that_fails(
    scan: ScanBytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    program = tmp_path / "bart"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(references, "BART_PATIENCE", 0.5)
    row = bart(scan)
    assert (row["ms"], row["why"]) == (None, why)


def test_without_bart(scan: ScanBytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    row = bart(scan)
    assert (row["ms"], row["why"]) == (None, "bart is not installed")


def test_an_engine_that_became_another_has_no_time(scan: ScanBytes) -> None:
    onnx = OnnxEngine(find_model("chpnet-rt"))

    def run(problem: Any) -> Any:
        spare.name = "onnx-cpu (instead of tensorrt-fp16)"
        return onnx.run(problem)

    spare = SimpleNamespace(name="tensorrt-fp16", card=onnx.card, device=onnx.device, run=run)
    rows = measure_references(scan, {"tensorrt": spare}, find_model("chpnet-rt"), 1)
    ours = [row for row in rows if row.get("engine") == "tensorrt"]
    assert [row["part"] for row in ours] == ["network", "image"]
    assert {row["ms"] for row in ours} == {None}
    assert all("found onnx-cpu (instead of tensorrt-fp16)" in row["why"] for row in ours)
