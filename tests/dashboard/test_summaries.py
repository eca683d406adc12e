"""One file a scan, whole or not there, and not too many."""

import json
from pathlib import Path
from typing import Any

import pytest

from chpnet_stream.dashboard.summaries import FORMAT, ScanSummaries
from chpnet_stream.errors import ConfigurationError
from chpnet_stream.streaming.events import LiveScan, ScanEnded, ScanOpened
from tests.gadgets.peers import conversation
from tests.streaming.test_watch import watched

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dashboard.md"


def written(folder: Path) -> list[Any]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*"))]


def test_a_scan_leaves_its_summary(small_scan: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    summaries = ScanSummaries(folder)
    events, _ = watched(conversation(small_scan), method="cg-sense")
    for event in events[:-1]:
        summaries.observe(event)
    assert written(folder) == []
    summaries.observe(events[-1])
    (told,) = written(folder)
    assert told["format"] == FORMAT
    assert told["outcome"] == "done"
    assert told["images"] == 2
    assert told["latency_ms"]["p95"] > 0
    assert [p.name for p in folder.iterdir()] == [f"scan-{told['id']}.json"]
    if PAGE.is_file():
        text = PAGE.read_text(encoding="utf-8")
        assert not [name for name in told if f"`{name}`" not in text]


def test_the_oldest_go_and_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    summaries = ScanSummaries(tmp_path, keep=3)
    for number in range(6):
        live = LiveScan(f"2026-{number}", "scan", "images", 0.0)
        summaries.observe(ScanOpened(live))
        summaries.observe(ScanEnded(live, "failed", "why", "ProtocolError", "", 0.0, 1.0))
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["notes.txt", *(f"scan-2026-{n}.json" for n in (3, 4, 5))]


def test_a_folder_that_cannot_be_written_to_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="can't write there"):
        ScanSummaries(tmp_path / "file" / "folder")


def test_a_full_disk_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "gone"
    summaries = ScanSummaries(folder)
    folder.rmdir()
    live = LiveScan("x", "scan", "images", 0.0)
    summaries.observe(ScanOpened(live))
    with caplog.at_level("ERROR", logger="chpnet_stream"):
        summaries.observe(ScanEnded(live, "done", "", "", "", 0.0, 1.0))
    assert "the summary of scan x could not be written" in caplog.text
