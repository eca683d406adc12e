import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from chpnet_stream.engines import plan_store
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


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        (0o777, "everybody can write to its folder; chmod o-w it"),
        (0o702, "everybody can write to its folder; chmod o-w it"),
        (0o770, "its group can write to its folder; chmod g-w it"),
        (0o720, "its group can write to its folder; chmod g-w it"),
    ],
)
def test_a_folder_that_others_can_write_to_is_not_trusted(store, caplog, mode, says):
    store.write(KEY, PLANS)
    store.folder.chmod(mode)
    assert says in refused(store, caplog)
    store.folder.chmod(0o755)
    assert store.read(KEY) == PLANS


@pytest.mark.parametrize("header", [True, False])
def test_a_file_that_others_can_write_to_is_not_trusted(store, caplog, header):
    first, _ = store.write(KEY, PLANS)
    path = store.header(store.stem(KEY)) if header else store.folder / first
    path.chmod(0o664)
    assert store.read(KEY) == PLANS  # nobody else can go into the folder
    store.folder.chmod(0o755)
    assert f"its group can write to {path.name}; chmod g-w it" in refused(store, caplog)


def test_what_is_written_is_trusted_whatever_the_umask(store, caplog):
    before = os.umask(0)
    try:
        store.folder.mkdir(mode=0o755)
        store.write(KEY, PLANS)
    finally:
        os.umask(before)
    assert store.read(KEY) == PLANS
    assert not caplog.records


def test_a_folder_of_another_user_is_not_trusted(store, caplog, monkeypatch):
    store.write(KEY, PLANS)
    owner = store.folder.stat().st_uid
    if owner == 0:
        os.chown(store.folder, 12345, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    found, own = store.folder.stat().st_uid, os.getuid()
    said = f"its folder belongs to another user ({found}); chown it to {own}, who runs this"
    assert said in refused(store, caplog)


def test_two_that_make_plans_at_once_leave_plans_of_one(store, caplog, monkeypatch):
    """The other one writes its plans and its header between our plans and our header."""
    theirs = [b"first of theirs", b"second of theirs"]
    write = plan_store.write_trusted

    def interrupted(path: Path, content: str | bytes) -> None:
        if path.name.endswith(".json"):
            monkeypatch.setattr(plan_store, "write_trusted", write)
            store.write(KEY, theirs)
        write(path, content)

    monkeypatch.setattr(plan_store, "write_trusted", interrupted)
    store.write(KEY, PLANS)
    assert store.read(KEY) == PLANS
    assert not caplog.records


def test_plans_that_are_replaced_leave_nothing_behind(store):
    other = replace(KEY, precision="fp32")
    kept = store.write(other, PLANS)
    old = store.write(KEY, PLANS)
    new = store.write(KEY, [b"first plan", b"another plan"])
    headers = [f"{store.stem(key)}.plan.json" for key in (KEY, other)]
    assert sorted(p.name for p in store.folder.iterdir()) == sorted([*kept, *new, *headers])
    assert len(set(old) & set(new)) == 1


def test_a_header_with_foreign_names_deletes_nothing(store):
    store.write(KEY, PLANS)
    (store.folder / "mine.0.plan").write_bytes(b"")
    change(store, files={"mine.0.plan": "0", "../mine.0.plan": "0"})
    store.write(KEY, PLANS)
    assert (store.folder / "mine.0.plan").exists()


def test_plans_under_names_of_older_versions_are_read(store):
    """`STEM.0.plan` says the same, if the header names it."""
    files = store.write(KEY, PLANS)
    renamed = {}
    for i, (name, checksum) in enumerate(files.items()):
        renamed[f"{store.stem(KEY)}.{i}.plan"] = checksum
        (store.folder / name).rename(store.folder / f"{store.stem(KEY)}.{i}.plan")
    change(store, files=renamed)
    assert store.read(KEY) == PLANS
    store.write(KEY, PLANS)
    assert not set(renamed) & {p.name for p in store.folder.iterdir()}


def test_plans_for_another_use_are_told(store):
    assert store.near(KEY) == []
    store.write(KEY, PLANS)
    store.write(replace(KEY, version="0.9", precision="int8"), PLANS)
    store.write(replace(KEY, version="0.9"), PLANS)
    store.write(replace(KEY, graphs=("f" * 64,)), PLANS)  # of another model
    (store.folder / "broken.plan.json").write_text("[]")
    assert store.near(KEY) == [
        f"version 0.9 instead of {KEY.version}",
        f"version 0.9 instead of {KEY.version}, precision int8 instead of {KEY.precision}",
    ]


def test_a_folder_that_can_not_be_read_has_no_plans(store, caplog, monkeypatch):
    store.write(KEY, PLANS)

    def denied(self: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", denied)
    assert "its header can't be read (PermissionError)" in refused(store, caplog)


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
