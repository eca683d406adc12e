"""Files are whole or not there: after failures, kills, and with several writers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import pytest

from chpnet_stream.errors import OutputError, OutputExistsError
from chpnet_stream.whole_file import check_apart, check_target, whole_file, write_whole
from tests.helpers import no_file_larger_than

SIZE = 1 << 20

HALVES = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
from chpnet_stream.whole_file import whole_file
path, letter, size = Path(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3])
with whole_file(path, sole_writer="sole" in sys.argv) as part, part.open("wb") as file:
    file.write(letter * (size // 2))
    file.flush()
    print("half", flush=True)
    sys.stdin.readline()
    file.write(letter * (size // 2))
"""
"""Writes half of a file, waits for a line, writes the other half."""

OVER_AND_OVER = """
import itertools, sys
from pathlib import Path
from chpnet_stream.whole_file import write_whole
for letter in itertools.cycle((b"a", b"b", b"c")):
    write_whole(Path(sys.argv[1]), letter * int(sys.argv[2]))
"""


@contextmanager
def child(code: str, *words: Any) -> Iterator[subprocess.Popen[str]]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, *map(str, words)], **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def halfway(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL


def letter_of(path: Path) -> bytes:
    """The one letter that a whole file is made of."""
    content = path.read_bytes()
    assert len(content) == SIZE
    assert content == content[:1] * SIZE
    return content[:1]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.txt"


@pytest.mark.parametrize("content", ["ä\nb\n", b"\0\xff", ""])
def test_what_is_written_is_read(content: str | bytes, path: Path) -> None:
    path.write_text("old")
    write_whole(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(path.parent) == ["a.txt"]


def test_nothing_is_there_before_the_end(path: Path) -> None:
    with whole_file(path) as part:
        assert (part.parent, part.exists()) == (path.parent, False)
        assert (part.name[0], part.suffix) == (".", ".part")
        part.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"


@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, OutputError])
def test_a_failure_leaves_what_was_there(
    kind: type[BaseException], old: str | None, path: Path
) -> None:
    if old:
        path.write_text(old)

    def fail() -> None:
        with whole_file(path) as part:
            part.write_text("half")
            raise kind("midway")

    with pytest.raises(kind, match="midway"):
        fail()
    assert names(path.parent) == (["a.txt"] if old else [])
    assert not old or path.read_text() == old


def test_a_full_disk_is_told(path: Path) -> None:
    path.write_text("old")
    said = r"^can't write .*/a\.txt: File too large$"
    with no_file_larger_than(1000), pytest.raises(OutputError, match=said):
        write_whole(path, "x" * 1001)
    assert names(path.parent) == ["a.txt"]
    assert path.read_text() == "old"


def test_names_that_cannot_be_written_are_told(path: Path) -> None:
    (path / "kept").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"a\.txt: Is a directory$"):
        write_whole(path, "new")
    with pytest.raises(OutputError, match=r"can't write .*b\.txt: No such file or directory$"):
        write_whole(path.parent / "none" / "b.txt", "new")
    assert names(path.parent) == ["a.txt"]
    assert names(path) == ["kept"]


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "x") as file:
        file["a"] = 1


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
@pytest.mark.parametrize("write", [Path.touch, write_hdf5])
def test_permissions_are_those_of_any_new_file(
    write: Callable[[Path], None], umask: int, path: Path
) -> None:
    write_whole(path, "another's")
    path.chmod(0o604)  # go with what is replaced
    before = os.umask(umask)
    try:
        write(path.with_name("plain"))
        with whole_file(path) as part:
            write(part)
    finally:
        os.umask(before)
    assert path.stat().st_mode == path.with_name("plain").stat().st_mode
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_link_is_replaced_and_not_followed(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("old")
    path.symlink_to(other)
    write_whole(path, "new")
    assert (path.is_symlink(), path.read_text(), other.read_text()) == (False, "new", "old")


@pytest.mark.parametrize("old", [b"", b"o"])
def test_killed_in_the_middle(old: bytes, path: Path) -> None:
    if old:
        path.write_bytes(old * SIZE)
    with child(HALVES, path, "a", SIZE) as process:
        halfway(process)
        kill(process)
    assert path.exists() == bool(old)
    assert not old or letter_of(path) == old
    (left,) = set(names(path.parent)) - {"a.txt"}
    assert left.startswith(".a.txt.")
    assert left.endswith(".part")
    write_whole(path, b"b" * SIZE)  # what was left is in nobody's way
    assert letter_of(path) == b"b"


def test_interrupted_in_the_middle_nothing_is_left(path: Path) -> None:
    with child(HALVES, path, "a", SIZE) as process:
        halfway(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0
    assert names(path.parent) == []


def test_what_a_killed_sole_writer_leaves_is_written_over(path: Path) -> None:
    for _ in range(2):
        with child(HALVES, path, "a", SIZE, "sole") as process:
            halfway(process)
            kill(process)
        assert names(path.parent) == [".a.txt.part"]
    with whole_file(path, sole_writer=True) as part:
        part.write_bytes(b"b" * SIZE)
    assert letter_of(path) == b"b"
    assert names(path.parent) == ["a.txt"]


def test_readers_see_whole_files_only_and_so_after_a_kill_at_any_moment(path: Path) -> None:
    seen = set()
    with child(OVER_AND_OVER, path, SIZE) as process:
        end = time.monotonic() + 60
        while len(seen) < 3 and time.monotonic() < end:
            if path.exists():
                seen.add(letter_of(path))
        kill(process)
    assert seen == {b"a", b"b", b"c"}
    assert letter_of(path) in seen


def test_of_several_processes_one_whole_file_stays(path: Path) -> None:
    letters = ("a", "b", "c")
    with (
        child(HALVES, path, "a", SIZE) as a,
        child(HALVES, path, "b", SIZE) as b,
        child(HALVES, path, "c", SIZE) as c,
    ):
        for process in (a, b, c):
            halfway(process)
        assert len(names(path.parent)) == 3
        for process in (a, b, c):
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        assert [process.wait(60) for process in (a, b, c)] == [0, 0, 0]
    assert letter_of(path).decode() in letters
    assert names(path.parent) == ["a.txt"]


def test_of_several_writers_in_a_process_the_last_to_end_wins(path: Path) -> None:
    with whole_file(path) as outer:
        outer.write_text("outer")
        with whole_file(path) as inner:
            inner.write_text("inner")
        assert path.read_text() == "inner"
    assert path.read_text() == "outer"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("sync", [False, True])
def test_with_sync_it_is_on_the_disk_before_it_has_its_name(
    sync: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("old")
    fsync, synced = os.fsync, []

    def watched(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append((found.st_ino, found.st_size, path.read_text()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    with whole_file(path, sync=sync) as part:
        part.write_text("newer")
    assert synced == ([(path.stat().st_ino, 5, "old")] if sync else [])


def test_targets_are_checked_before_the_work(path: Path) -> None:
    check_target(path, overwrite=False)
    path.write_text("mine")
    check_target(path, overwrite=True)
    with pytest.raises(OutputExistsError, match=r"a\.txt exists already; .* --overwrite"):
        check_target(path, overwrite=False)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"no folder none to write b\.h5 to; make it first"):
            check_target(Path("none/b.h5"), overwrite=overwrite)


def test_a_target_that_can_not_be_looked_at_is_told(path: Path) -> None:
    """As one in a folder of somebody else's."""
    with pytest.raises(OutputError, match=r"^can't write .*x\.h5: File name too long$"):
        check_target(path.with_name(f"{300 * 'x'}.h5"), overwrite=False)


def test_images_stay_apart_from_their_scan(path: Path) -> None:
    other = path.with_name("b.txt")
    check_apart(path, other)
    path.write_text("scan")
    check_apart(other, path)
    other.symlink_to(path)
    for out in (path, other):
        with pytest.raises(OutputError, match="is the scan itself"):
            check_apart(out, path)
    check_apart(path.with_name(300 * "x"), path)


def test_it_is_light() -> None:
    code = "import sys, chpnet_stream.whole_file; print({'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("set()\n", "")
