"""Versions that a table must tell, without a program that hangs costing the table."""

from pathlib import Path

import pytest

from chpnet_stream.benchmark.machine import bart_version, machine


@pytest.mark.parametrize(
    ("script", "version"),
    [("echo v0.8.00", "0.8.00"), ("echo 0.9 >&2", "0.9"), ("exit 1", None)],
)
def test_what_bart_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, version: str | None
) -> None:
    program = tmp_path / "bart"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bart_version() == version
    assert machine()["versions"].get("bart") == version


def test_a_bart_that_can_not_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bart"
    program.write_text("no program")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bart_version() is None


def test_without_bart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert bart_version() is None
    assert "bart" not in machine()["versions"]
