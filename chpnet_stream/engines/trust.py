"""Files that nobody else can have written: what is run on a GPU is taken from no others."""

from __future__ import annotations

import os
from pathlib import Path

from chpnet_stream.whole_file import write_whole

WRITERS = {0o002: ("everybody", "o-w"), 0o020: ("its group", "g-w")}
"""Bits of a mode, who may write by them, and how that is taken back."""


def untrusted(path: Path) -> str | None:
    """Why a file or folder can't be trusted: somebody else can write to it. None where it can.

    Raises:
        OSError: If it can't be looked at.
    """
    if not hasattr(os, "getuid"):
        return None
    found = path.stat()
    folder = path.is_dir()
    what = "its folder" if folder else path.name
    if found.st_uid not in (os.getuid(), 0):
        own = os.getuid()
        return f"{what} belongs to another user ({found.st_uid}); chown it to {own}, who runs this"
    for bit, (whoever, change) in WRITERS.items():
        reached = folder or path.parent.stat().st_mode & (bit >> 1)  # the right to go into it
        if found.st_mode & bit and reached:
            return f"{whoever} can write to {what}; chmod {change} it"
    return None


def write_trusted(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all, to which nobody else can write, whatever the umask.

    Raises:
        OSError, OutputError: If it can't be written.
    """
    write_whole(path, content)
    path.chmod(path.stat().st_mode & ~sum(WRITERS))
