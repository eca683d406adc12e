"""A run that was ended goes on with what it has kept."""

import json
from pathlib import Path

import pytest

from chpnet_stream.benchmark.kept import Kept
from chpnet_stream.benchmark.plan import FASTEST, Case, Plan
from chpnet_stream.errors import ConfigurationError, OutputError

CASE = Case(128, 8)
PLAN = Plan(("onnx", "pytorch:bf16"), (CASE,), slices=20, rate=None)
ROW = {"slices": 20, "rate_per_s": CASE.pace, "p50_ms": 12.5}


def test_rows_are_there_for_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    first = Kept(PLAN, path)
    assert first.streamed(CASE, "onnx") is None
    first.keep_streamed(CASE, "onnx", ROW)
    first.keep_references(CASE, [{"what": "x", "ms": 1.0}])
    second = Kept(PLAN, path)
    assert second.streamed(CASE, "onnx") == ROW
    assert second.streamed(CASE, "pytorch:bf16") is None
    assert second.streamed(Case(128, 16), "onnx") is None
    assert second.references(CASE) == [{"what": "x", "ms": 1.0}]
    assert [p.name for p in tmp_path.iterdir()] == ["kept.json"]


def test_rows_of_fewer_slices_or_another_pace_are_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    Kept(PLAN, path).keep_streamed(CASE, "onnx", ROW)
    more = Plan(PLAN.engines, PLAN.cases, slices=1000, rate=None)
    assert Kept(more, path).streamed(CASE, "onnx") is None
    other = Plan(PLAN.engines, PLAN.cases, slices=20, rate=CASE.pace + 1)
    assert Kept(other, path).streamed(CASE, "onnx") is None


def test_another_series_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    Kept(PLAN, path).keep_streamed(CASE, "onnx", ROW)
    other = Plan(PLAN.engines, PLAN.cases, slices=20, rate=None, maps="new")
    with pytest.raises(ConfigurationError, match="expected maps 'new' as in this run, found 'kept"):
        Kept(other, path)
    told = json.loads(path.read_text())
    for name in ("processor", "packages", "cores"):
        other = json.loads(json.dumps(told))
        other["series"][name] = "another one"
        path.write_text(json.dumps(other))
        with pytest.raises(ConfigurationError, match="found 'another one'; name another file"):
            Kept(PLAN, path)
    path.write_text("[]")
    with pytest.raises(ConfigurationError, match="expected a file that an earlier run has kept"):
        Kept(PLAN, path)


def test_a_missing_folder_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"none to write kept\.json to; make it first"):
        Kept(PLAN, tmp_path / "none" / "kept.json")


def test_without_a_file_nothing_is_kept() -> None:
    nothing = Kept(PLAN)
    nothing.keep_streamed(CASE, "onnx", ROW)
    assert nothing.streamed(CASE, "onnx") is None


def test_small_images_are_sent_faster() -> None:
    paces = [Case(matrix, coils).pace for matrix, coils in ((320, 32), (256, 16), (128, 1))]
    assert paces == sorted(paces)
    assert min(paces) >= 0.5
    assert PLAN.late_of(CASE) == pytest.approx(2e3 / CASE.pace)


def test_half_precision_is_sent_twice_as_many() -> None:
    paced = Plan(PLAN.engines, PLAN.cases, rate=None)
    case = Case(256, 16)
    assert paced.rate_of(case, "pytorch:bf16") == 2 * paced.rate_of(case, "onnx:fp32")
    assert paced.late_of(case, "pytorch:bf16") == paced.late_of(case, "onnx:fp32") / 2
    assert paced.rate_of(Case(128, 1), "pytorch:bf16") == FASTEST
    assert Plan(PLAN.engines, PLAN.cases, rate=3.0).rate_of(case, "pytorch:bf16") == 3
