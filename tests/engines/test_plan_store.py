import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from chpnet_stream.engines.plan_store import PlanStore, plan_cache
from chpnet_stream.errors import OutputError
from tests.engines.test_plan_key import KEY, OTHER

PLANS = [b"first plan", b"second plan"]


@pytest.fixture
def store(tmp_path):
    return PlanStore(tmp_path / "kept")


def refused(store: PlanStore, caplog: pytest.LogCaptureFixture) -> str:
    with caplog.at_level(logging.WARNING):
        assert store.read(KEY) is None
    (record,) = caplog.records
    return record.getMessage()


def test_what_was_kept_comes_back(store, caplog):
    assert store.read(KEY) is None
    files = store.write(KEY, PLANS)
    assert store.read(KEY) == PLANS
    assert sorted(p.name for p in store.folder.iterdir()) == sorted(
        [*files, f"{store.stem(KEY)}.plan.json"]
    )
    assert store.folder.stat().st_mode & 0o077 == 0
    assert not caplog.records


@pytest.mark.parametrize("name", sorted(OTHER))
def test_another_key_is_a_miss(store, caplog, name):
    store.write(KEY, PLANS)
    with caplog.at_level(logging.WARNING):
        assert store.read(replace(KEY, **{name: OTHER[name]})) is None
    assert not caplog.records


@pytest.mark.parametrize("name", sorted(OTHER))
def test_a_foreign_plan_under_our_name_is_refused(store, caplog, name):
    """Renamed, or copied from another machine: the header tells."""
    store.write(replace(KEY, **{name: OTHER[name]}), PLANS, store.stem(KEY))
    assert f"it is for another use ({name} " in refused(store, caplog)


def test_a_damaged_plan_is_refused(store, caplog):
    first, _ = store.write(KEY, PLANS)
    (store.folder / first).write_bytes(b"first plam")
    assert f"{first} is damaged" in refused(store, caplog)
    store.write(KEY, PLANS)
    assert store.read(KEY) == PLANS


def test_a_missing_plan_is_refused(store, caplog):
    _, second = store.write(KEY, PLANS)
    (store.folder / second).unlink()
    assert f"{second} is missing" in refused(store, caplog)


def change(store: PlanStore, **parts: object) -> None:
    header = store.folder / f"{store.stem(KEY)}.plan.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | parts))


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"format": 2}, "format 2, expected 1"),
        ({"key": "none"}, "another layout"),
        ({"files": {}}, "0 files, expected 2"),
        ({"files": {"../a.plan": "0", "b.plan": "0"}}, "'../a.plan' is no name of a file"),
    ],
)
def test_headers_that_are_none(store, caplog, parts, says):
    store.write(KEY, PLANS)
    change(store, **parts)
    assert says in refused(store, caplog)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", "\x00\xff"])
def test_what_is_no_header_is_refused(store, caplog, text):
    store.write(KEY, PLANS)
    (store.folder / f"{store.stem(KEY)}.plan.json").write_text(text, encoding="latin-1")
    assert "header can't be read" in refused(store, caplog)


def test_a_folder_for_everybody_is_not_trusted(store, caplog):
    store.write(KEY, PLANS)
    store.folder.chmod(0o777)
    assert "everybody can write to its folder" in refused(store, caplog)


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "kept").write_text("")
    with pytest.raises(OutputError, match="expected to write plans there"):
        PlanStore(tmp_path / "kept").write(KEY, PLANS)


def test_an_interrupted_write_leaves_nothing_half(store, monkeypatch):
    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="No space left"):
        store.write(KEY, PLANS)
    assert list(store.folder.iterdir()) == []
    assert store.read(KEY) is None


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("CHPNET_PLAN_CACHE", str(tmp_path / "own"))
    assert plan_cache() == tmp_path / "own"
    monkeypatch.delenv("CHPNET_PLAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert plan_cache() == tmp_path / "chpnet-stream" / "plans"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert plan_cache() == tmp_path / "home" / ".cache" / "chpnet-stream" / "plans"
