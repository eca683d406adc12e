"""Files that appear at their name whole, or not at all.

A file is written under a hidden name beside its own and then renamed: whoever opens it finds the
old one or the new one, never half of one. A failure and Ctrl-C leave nothing behind; a process
that is killed leaves a hidden `.NAME.XXXXXXXX.part`, which stands in nobody's way.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chpnet_stream.errors import OutputError, OutputExistsError


@contextmanager
def whole_file(path: Path, *, sync: bool = False, sole_writer: bool = False) -> Iterator[Path]:
    """A hidden name beside `path`, which becomes `path` when the block ends without an error.

    There is no file of that name yet: the block makes it, so that it has the permissions that
    every new file has. What was at `path` is replaced with its permissions; of a symbolic link
    that is the link, not the file it leads to. Of several writers the last to end wins.

    The block does nothing but write: any `OSError` in it is told as a failure to write.

    Args:
        path: The file to make or to replace; `check_target` refuses one that is there.
        sync: Wait until it is on the disk, so that after a power cut, too, the old file or the
            new one is there: for what takes hours to make again. A killed process needs no sync.
        sole_writer: The hidden name is always `.NAME.part`, so that the next try writes over what
            a killed process has left: for large files of which only one process writes.

    Yields:
        The hidden name.

    Raises:
        OutputError: It can't be written.
    """
    temporary = path.parent / f".{path.name}.part" if sole_writer else hidden_name(path)
    try:
        yield temporary
        if sync:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # not there any more, unless something failed
            temporary.unlink()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a text (UTF-8) or bytes, whole or not at all.

    Raises:
        OutputError: As `whole_file`.
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def hidden_name(path: Path) -> Path:
    """A new name beside `path` for what is not whole yet."""
    return path.parent / f".{path.name}.{secrets.token_hex(4)}.part"


def check_target(path: Path, *, overwrite: bool) -> None:
    """Check, before long work, that an output may be written.

    Raises:
        OutputExistsError: It is there already and must not be replaced.
        OutputError: Its folder is not there, or can't be looked into.
    """
    try:
        there, folder = path.exists(), path.parent.is_dir()
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror or error}") from error
    if there and not overwrite:
        raise OutputExistsError(
            f"{path} exists already; choose another name or allow it with --overwrite"
        )
    if not folder:
        raise OutputError(f"no folder {path.parent} to write {path.name} to; make it first")


def check_apart(path: Path, scan: Path) -> None:
    """Check that images would not be written over the scan that they are made of.

    Raises:
        OutputError: They would.
    """
    try:
        same = path.samefile(scan)
    except OSError:  # one of them is not there, or can't be looked at: they are told of elsewhere
        return
    if same:
        raise OutputError(f"{path} is the scan itself; expected another name for the images")
