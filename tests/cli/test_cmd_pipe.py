"""`pipe` as a process: the pixels of `offline`, errors, and pipes that break."""

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import ismrmrd
import pytest

from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.messages import Close, Header, Text
from tests.gadgets.peers import messages_in, raw
from tests.programs import ENVIRONMENT, PROGRAM, chpnet, same_pixels


def stream_of(path: Path) -> bytes:
    """A scan as ismrmrd_hdf5_to_stream writes it: header, items by time, CLOSE."""
    with ScanFile(path) as scan:
        return raw(Header(scan.header.xml), *scan.items(), Close())


def test_pipe(scan: Path, wanted: list[Any]) -> None:
    data = stream_of(scan)
    done = chpnet("pipe", "--threads", 1, input=data, text=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    found = messages_in(done.stdout)
    with ScanFile(scan) as original:
        assert found[0] == Header(original.header.xml)  # ismrmrd_stream_to_hdf5 wants it first
        waveforms = [m for m in found if isinstance(m, ismrmrd.Waveform)]
        assert len(waveforms) == original.number_of_waveforms
    assert isinstance(found[-1], Close)
    same_pixels([m for m in found if isinstance(m, ismrmrd.Image)], wanted)


def test_pipe_tells_errors_and_keeps_what_is_whole(scan: Path) -> None:
    data = stream_of(scan)
    done = chpnet("pipe", "--property", "method=cg-sense", input=data[: len(data) // 2], text=False)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert "the stream ended at byte" in line
    *rest, text, close = messages_in(done.stdout)
    assert sum(isinstance(m, ismrmrd.Image) for m in rest) >= 2
    assert isinstance(text, Text)
    assert text.text.removeprefix("chpnet-stream: ") in line
    assert isinstance(close, Close)


def test_pipe_whose_reader_has_enough(scan: Path) -> None:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*PROGRAM, "pipe", "--property", "method=rss"],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env=ENVIRONMENT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stderr, process.stdin:
        process.stdout.close()
        with suppress(BrokenPipeError):  # no CLOSE: our side of the pipe stays open
            process.stdin.write(stream_of(scan)[:-2])
            process.stdin.flush()
        log = process.stderr.read().decode()
        assert process.wait(120) == 1
        with suppress(BrokenPipeError):
            process.stdin.close()
    assert "whatever reads our output has ended" in log
    assert len(log.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "data", "fault"),
    [
        (["--config", "nonsens"], b"", "unknown configuration"),
        (["--property", "metod=rss"], b"", "did you mean 'method'"),
        ([], b"", "without CLOSE"),
        ([], b"yardl....", "message id"),
    ],
)
def test_pipe_refuses(words: list[str], data: bytes, fault: str) -> None:
    done = chpnet("pipe", *words, input=data, text=False)
    assert done.returncode in (1, 2)
    assert fault in done.stderr.decode()


@pytest.mark.parametrize(("closed", "name"), [("<&-", "stdin"), (">&-", "stdout")])
def test_a_pipe_that_is_no_pipe(closed: str, name: str) -> None:
    """It was a traceback of Python's."""
    words = ["sh", "-c", f'exec "$@" {closed}', "sh", *PROGRAM, "pipe"]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=ENVIRONMENT, timeout=60
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"error: {name} is closed, expected" in line
