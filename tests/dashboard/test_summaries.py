"""One file a scan, whole or not there, and not too many."""

import json
from pathlib import Path
from typing import Any

import pytest

from chpnet_stream.dashboard.summaries import FORMAT, ScanSummaries
from chpnet_stream.errors import ConfigurationError
from chpnet_stream.streaming.current import new_scan_id
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


def ended(summaries: ScanSummaries, *names: str) -> list[str]:
    """Scans of these names end; gives the files that are there then."""
    for name in names:
        live = LiveScan(name, "scan", "images", 0.0)
        summaries.observe(ScanOpened(live))
        summaries.observe(ScanEnded(live, "failed", "why", "ProtocolError", "", 0.0, 1.0))
    return sorted(path.name for path in summaries.folder.iterdir())


def test_the_oldest_go_and_other_files_stay(tmp_path: Path) -> None:
    others = ["notes.txt", "scan-1.json", "scan-protocol.json"]
    for name in others:
        (tmp_path / name).write_text("mine")
    scans = [f"20260101-10000{n}-0001-abcd" for n in range(6)]
    names = ended(ScanSummaries(tmp_path, keep=3), *scans)
    assert names == sorted([*others, *(f"scan-{scan}.json" for scan in scans[3:])])


def test_a_clock_that_was_set_back_does_not_cost_the_newest(tmp_path: Path) -> None:
    """Those of the wrong clock seemed to be newer for ever, and all that followed went at once."""
    ahead = [f"29991231-23595{n}-0001-abcd" for n in range(3)]
    summaries = ScanSummaries(tmp_path, keep=3)
    assert len(ended(summaries, *ahead)) == 3
    scans = [new_scan_id() for _ in range(2)]
    names = ended(summaries, *scans)
    assert names == sorted(f"scan-{scan}.json" for scan in (*scans, ahead[-1]))
    assert f"scan-{scans[0]}.json" in ended(summaries, new_scan_id())
    (latest,) = ended(ScanSummaries(tmp_path, keep=1), "20000101-000000-0001-abcd")
    assert latest == "scan-20000101-000000-0001-abcd.json"


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
