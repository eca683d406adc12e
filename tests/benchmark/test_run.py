"""A gadget that fails in one size costs that size only."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chpnet_stream.benchmark import run
from chpnet_stream.benchmark.kept import Kept
from chpnet_stream.benchmark.peer import Streamed, stream
from chpnet_stream.benchmark.plan import Case, Plan
from chpnet_stream.benchmark.tables import as_markdown
from chpnet_stream.engines.onnx import OnnxEngine
from chpnet_stream.errors import ConfigurationError, EngineError, PeerGoneError
from chpnet_stream.network.weights import find_model

PLAN = Plan(("onnx",), (Case(32, 2), Case(48, 2)), slices=1, rate=0, threads=1, references=False)


def failing(sizes: set[int]) -> Any:
    """The real thing, but for gadgets of these sizes, which die in the middle."""

    def made(scan: Any, *words: Any, **more: Any) -> Streamed:
        if scan.lines in sizes:
            raise PeerGoneError("the gadget was given up after 3 images")
        return stream(scan, *words, **more)

    return made


def test_the_others_are_measured_and_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = (run.ScanBytes(case).lines for case in PLAN.cases)
    assert first != second
    kept = tmp_path / "kept.json"
    monkeypatch.setattr(run, "stream", failing({first}))
    steps: list[tuple[int, int]] = []
    results = run.run_plan(
        PLAN, lambda step: steps.append((step.done, step.total)), Kept(PLAN, kept)
    )
    assert [row["matrix"] for row in results.streamed] == [48]
    why = "the gadget was given up after 3 images"
    assert results.failed == {"2 coils, 32 x 32, onnx": why}
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1]
    assert f"- 2 coils, 32 x 32, onnx: {why}" in as_markdown(results, "bench")
    monkeypatch.setattr(run, "stream", failing({second}))  # is not asked for again
    results = run.run_plan(PLAN, kept=Kept(PLAN, kept))
    assert [row["matrix"] for row in results.streamed] == [32, 48]
    assert results.failed == {}


def test_where_all_fail_that_is_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {run.ScanBytes(case).lines for case in PLAN.cases}
    monkeypatch.setattr(run, "stream", failing(sizes))
    with pytest.raises(PeerGoneError, match="given up after 3 images"):
        run.run_plan(PLAN)


def test_another_engine_is_compared_with_onnx_runtime_too() -> None:
    plan = Plan(("pytorch:fp32",), (Case(32, 2),), slices=1, rate=0, threads=1)
    results = run.run_plan(plan)
    found = {
        (row["by"], row["part"], row["engine"]) for row in results.references if "engine" in row
    }
    assert ("onnx-cpu", "network", None) in found


def test_rows_are_labelled_by_what_made_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the gadget's process takes its spare, and this one has the engine."""
    asked: list[str] = []

    def elsewhere(scan: Any, *words: Any, engine: str, **more: Any) -> Streamed:
        asked.append(engine)
        return stream(scan, *words, engine="tensorrt-fp16", **more)

    monkeypatch.setattr(run, "stream", elsewhere)
    with pytest.raises(PeerGoneError, match="by the engine tensorrt-fp16, found onnx-cpu;"):
        run.run_plan(Plan(("onnx",), (Case(32, 2),), slices=1, rate=0, references=False))
    assert asked == ["onnx-cpu"]


def test_conventional_images_are_no_row_of_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the gadget's process has no memory for the network, and this one has it."""
    installed = find_model("chpnet-rt")
    shutil.copy(installed.folder / "chpnet-rt.json", tmp_path)
    for path in installed.files():
        shutil.copy(path, tmp_path)
    (tmp_path / "chpnet-rt.0.onnx").write_bytes(b"damaged")
    monkeypatch.setattr(run, "make_engine", lambda *_, **__: OnnxEngine(installed))
    card = str(tmp_path / "chpnet-rt.json")
    plan = Plan(
        ("onnx",), (Case(32, 2),), slices=1, rate=0, threads=1, model=card, references=False
    )
    said = "expected images by the network, found cg-sense only: engine not loaded: .*damaged"
    with pytest.raises(EngineError, match=said):
        run.run_plan(plan)


def test_the_reason_why_an_engine_is_left_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made = SimpleNamespace(name="onnx-cpu (instead of tensorrt)", reason="tensorrt: found no GPU")
    monkeypatch.setattr(run, "make_engine", lambda *_, **__: made)
    with pytest.raises(ConfigurationError) as caught:
        run.run_plan(Plan(("tensorrt",), PLAN.cases))
    assert "(tensorrt: found no GPU; found onnx-cpu (instead of tensorrt))" in str(caught.value)


def test_a_deadline_that_is_set_is_the_gadget_s() -> None:
    """No network is ready in a hundredth of a millisecond: conventional images go out."""
    plan = Plan(
        *(("onnx",), (Case(32, 2),)),
        slices=1,
        rate=0,
        threads=1,
        references=False,
        deadline_ms=0.01,
        set_deadline=True,
    )
    results = run.run_plan(plan)
    (row,) = results.streamed
    assert row["methods"] == {"cg-sense": 10}
    assert (row["fallbacks"], row["late"], row["engines"]) == (10, 1, {})
    assert "0.01 ms, which the gadget is told as its deadline" in as_markdown(results, "bench")
