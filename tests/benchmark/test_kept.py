"""A run that was ended goes on with what it has kept."""

import json
from pathlib import Path

import pytest

from chpnet_stream.benchmark.kept import Kept
from chpnet_stream.benchmark.plan import Case, Plan
from chpnet_stream.benchmark.references import BART, CG_SENSE
from chpnet_stream.errors import ConfigurationError, OutputError

CASE = Case(128, 8)
PLAN = Plan(("onnx", "pytorch:bf16"), (CASE,), slices=20, rate=None)
ROW = {"slices": 20, "rate_per_s": CASE.pace(), "p50_ms": 12.5}


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


def test_what_failed_beside_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.json"
    kept = Kept(PLAN, path)
    rows = [{"by": CG_SENSE, "ms": 1.0}, {"by": BART, "ms": None, "why": "bart is not installed"}]
    kept.keep_references(CASE, rows)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert Kept(PLAN, path).references(CASE) == rows  # it still isn't
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert Kept(PLAN, path).references(CASE) is None
    failed = {"by": CG_SENSE, "ms": None, "why": "RuntimeError: can't allocate memory"}
    kept.keep_references(CASE, [failed])
    assert Kept(PLAN, path).references(CASE) is None
    kept.keep_references(CASE, [{"by": CG_SENSE, "ms": 1.0}])
    assert Kept(PLAN, path).references(CASE) == [{"by": CG_SENSE, "ms": 1.0}]


def test_rows_of_fewer_slices_or_another_pace_are_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    Kept(PLAN, path).keep_streamed(CASE, "onnx", ROW)
    more = Plan(PLAN.engines, PLAN.cases, slices=1000, rate=None)
    assert Kept(more, path).streamed(CASE, "onnx") is None
    other = Plan(PLAN.engines, PLAN.cases, slices=20, rate=CASE.pace() + 1)
    assert Kept(other, path).streamed(CASE, "onnx") is None


def test_another_series_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    Kept(PLAN, path).keep_streamed(CASE, "onnx", ROW)
    deadline = Plan(PLAN.engines, PLAN.cases, slices=20, rate=None, set_deadline=True)
    with pytest.raises(ConfigurationError, match="expected set_deadline True as in this run, fou"):
        Kept(deadline, path)
    other = Plan(PLAN.engines, PLAN.cases, slices=20, rate=None, maps="new")
    with pytest.raises(ConfigurationError, match="expected maps 'new' as in this run, found 'kept"):
        Kept(other, path)
    told = json.loads(path.read_text())
    for name in ("processor", "instructions", "packages", "cores"):
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
