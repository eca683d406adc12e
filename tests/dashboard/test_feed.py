"""What the page keeps of a scan, in Node.js: the pictures that the server keeps, and no more."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

import chpnet_stream.dashboard

FEED = Path(chpnet_stream.dashboard.__file__).parent / "static" / "feed.js"
SCRIPT = """
const listeners = {};
globalThis.EventSource = class {
  addEventListener(name, take) { listeners[name] = take; }
  close() {}
};
const { Feed } = await import(process.argv[2]);
const feed = new Feed();
const tell = (name, value) => listeners[name]({ data: JSON.stringify(value) });
const told = [];
for (const [name, value] of JSON.parse(process.argv[3])) {
  tell(name, value);
  const { frames, places } = feed.index("a");
  told.push([feed.index("a").sortedFrames(), frames.size, places.size]);
}
console.log(JSON.stringify(told));
process.exit(0);
"""


def picture(number: int, repetition: int, slice_number: int = 0) -> dict[str, Any]:
    counters = {"slice": slice_number, "contrast": 0, "set": 0, "phase": 0}
    return {"number": number, "scan": "a", "beside": False, "repetition": repetition, **counters}


def kept(tmp_path: Path, *events: tuple[str, Any]) -> list[Any]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no program node")
    script = tmp_path / "script.mjs"
    script.write_text(SCRIPT)
    module = tmp_path / "feed.mjs"
    module.write_text(FEED.read_text(encoding="utf-8"))
    words = [node, str(script), str(module), json.dumps(events)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    return list(json.loads(done.stdout))


def test_frames_go_with_their_last_picture(tmp_path: Path) -> None:
    """The cine of a long scan was mostly of frames that nobody has any more."""
    both = [picture(1, 0, 0), picture(2, 0, 1), picture(3, 1, 0), picture(4, 1, 1)]
    told = kept(
        tmp_path,
        ("pictures", both),
        ("pictures", both[:1]),  # completed by its latency
        ("state", {"order": ["a"], "oldest_picture": 2}),
        ("state", {"order": ["a"], "oldest_picture": 3}),
        ("pictures", [picture(5, 2, 0)]),
        ("state", {"order": ["a"], "oldest_picture": 5}),
    )
    frames = [["0.0", "1.0"], ["0.0", "1.0"], ["0.0", "1.0"], ["1.0"], ["1.0", "2.0"], ["2.0"]]
    assert told == [
        [one, len(one), places] for one, places in zip(frames, (4, 4, 3, 2, 3, 1), strict=True)
    ]
