"""A soak of seconds through real servers, and what a long one must be able to find."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def soak() -> ModuleType:
    """The program, as a module."""
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("soak", FOLDER / "soak.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["soak"] = module  # dataclasses look there
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(FOLDER))
        sys.modules.pop("soak", None)


def test_a_soak_of_seconds(tmp_path: Path) -> None:
    out, rows = tmp_path / "soak.md", tmp_path / "rows.json"
    words = ["--scans", "3", "--clients", "2", "--slices", "4", "--lines", "64", "--interval", "4"]
    words += ["--out", str(out), "--json", str(rows), "--readings", str(tmp_path / "readings.csv")]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "soak.py"), *words],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,  # memory and latency of some seconds tell nothing
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert rows.exists(), done.stdout + done.stderr
    found = json.loads(rows.read_text())
    assert [row["door"] for row in found] == ["serve", "gadget"]
    for row in found:
        assert row["faults"] == 0, done.stdout
        assert (row["scans"], row["images"]) == (3, 12)
        assert row["processor ms an image"] > 0
        assert 0 < row["own p50 ms"] < row["p50 ms"] + 5
    text = out.read_text()
    assert "6 scans" in text
    assert "24 images" in text
    called = "--scans 3 --clients 2 --slices 4 --lines 64 --interval 4"
    assert f"Made by `python benchmarks/soak.py {called}`." in text
    assert (tmp_path / "readings.csv").read_text().startswith("door,seconds,resident_bytes")


def door(soak: ModuleType, growth: float = 0.0, slower: float = 1.0, work: float = 1.0) -> object:
    """An hour of a server that grows, gets slower, or takes more of a processor."""
    made = soak.Door("serve", None)
    spent = 0.0
    for second in range(3600):
        part = second / 3600
        spent += 0.05 * (work if part > 2 / 3 else 1)
        memory = int(5e8 * (1 + growth * part))
        made.readings.append(soak.Reading(float(second), memory, 20, 9, spent, 0.5))
        late = slower if part > 2 / 3 else 1.0
        made.latencies.append((second + 0.5, 30 * late))
        made.own.append((second + 0.5, 25 * late))
    made.scans, made.images = 60, 3600
    return made


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"growth": 0.005}, []),
        ({"growth": 0.02}, ["memory grew by 1.9"]),
        ({"slower": 2.0}, ["p99 went from 30 to 60 ms"]),
        ({"work": 1.2}, ["processor time for each image went from 50 to 60 ms"]),
    ],
)
def test_what_does_not_hold_is_told(soak: ModuleType, change: dict, said: list[str]) -> None:
    told = list(soak.failures(soak.verdict(door(soak, **change))))
    assert len(told) == len(said)
    assert all(text.startswith(start) for text, start in zip(told, said, strict=True)), told


def test_faults_descriptors_and_threads_are_told(soak: ModuleType) -> None:
    made = door(soak)
    made.faults.append("scan 3: 59 images of 60 slices")
    made.readings = [
        reading._replace(files=20 + number // 300, threads=9 + number // 300)
        for number, reading in enumerate(made.readings)
    ]
    told = list(soak.failures(soak.verdict(made)))
    assert [text.split()[0] for text in told] == ["1", "descriptors", "threads"]
