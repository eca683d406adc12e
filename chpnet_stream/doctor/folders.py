"""Folders that are written to: compiled plans, log files, temporary files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from chpnet_stream.doctor.finding import Finding
from chpnet_stream.engines.plan_store import CACHE_VARIABLE, plan_cache


def folder_findings() -> Iterator[Finding]:
    """Whether they can be written to. Nothing is left behind."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    yield _folder("compiled plans", plan_cache(), f"set {CACHE_VARIABLE} to a folder of your own")
    yield _folder("log files", Path(state) / "chpnet-stream", "set XDG_STATE_HOME to another one")
    yield _folder("temporary files", Path(tempfile.gettempdir()), "set TMPDIR to another one")


def _folder(name: str, folder: Path, advice: str) -> Finding:
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        note = "" if there == folder else " (made when it is needed)"
        return Finding("folders", name, "ok", f"{folder}{note}")
    return Finding("folders", name, "warn", f"{folder} can't be written to", advice)
