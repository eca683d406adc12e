"""One scan by `offline`, by `send` to `serve` and `gadget`, and by `pipe`: real processes."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.messages import Close, Header, Query, Text
from tests.gadgets.peers import messages_in, raw
from tests.sessions import simulated

PROGRAM = [sys.executable, "-m", "chpnet_stream"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def chpnet(*words: Any, **more: Any) -> subprocess.CompletedProcess[Any]:
    more.setdefault("text", True)
    return subprocess.run(
        [*PROGRAM, *map(str, words)],
        capture_output=True,
        timeout=240,
        check=False,
        env=ENVIRONMENT,
        **more,
    )


class Running:
    """A server in a process of its own."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, *words, "--port", "0", "--threads", "1"],
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        self.log: list[str] = []
        self.port = int(self.line("listening on 127.0.0.1 port").split("port ")[1].split()[0])

    def line(self, words: str) -> str:
        """The next line of the log with these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if words in line:
                return line
        raise AssertionError(f"no line with '{words}' in: {self.log}")


@contextmanager
def running(*words: str) -> Iterator[Running]:
    made = Running(*words)
    try:
        yield made
        made.process.send_signal(signal.SIGTERM)
        assert made.process.wait(60) == 0
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.communicate()


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two repetitions of three slices, with waveforms."""
    folder = tmp_path_factory.mktemp("doors")
    return simulated(folder, slices=3, repetitions=2, waveforms=True, matrix=(32, 32), coils=3)


@pytest.fixture(scope="module")
def wanted(scan: Path) -> list[Any]:
    """The images by `offline`, the network's."""
    out = scan.with_name("offline.h5")
    done = chpnet("offline", scan, "-o", out, "--threads", 1)
    assert done.returncode == 0, done.stderr
    return images_in(out)


def images_in(path: Path, series: str = "image_1") -> list[Any]:
    with ismrmrd.Dataset(str(path), "dataset", mode="r") as dataset:
        return [dataset.read_image(series, n) for n in range(dataset.number_of_images(series))]


def same_pixels(found: list[Any], wanted: list[Any]) -> None:
    assert [(i.slice, i.repetition) for i in found] == [(i.slice, i.repetition) for i in wanted]
    for image, same in zip(found, wanted, strict=True):
        assert image.meta["ChpnetMethod"] == "chpnet"
        np.testing.assert_array_equal(image.data, same.data)
        assert tuple(image.position) == tuple(same.position)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running("serve") as made:
        yield made


def test_send_to_serve(tmp_path: Path, scan: Path, wanted: list[Any], server: Running) -> None:
    out = tmp_path / "served.h5"
    done = chpnet("send", scan, "--port", server.port, "-o", out, "--pace", 4, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["images"], told["expected_images"], told["error"]) == (6, 6, None)
    assert told["by_series"] == {"series 1": 6}
    assert 0 < told["latency_p50_ms"] <= told["latency_p95_ms"] <= told["latency_max_ms"]
    same_pixels(images_in(out), wanted)
    with ScanFile(scan) as original, ismrmrd.Dataset(str(out), "dataset", mode="r") as dataset:
        assert dataset.read_xml_header() == original.header.xml
        assert dataset.number_of_waveforms() == original.number_of_waveforms > 0


def test_send_to_gadget(tmp_path: Path, scan: Path, wanted: list[Any]) -> None:
    out = tmp_path / "gadget.h5"
    with running("gadget") as server:
        done = chpnet("send", scan, "--port", server.port, "-o", out)
        assert done.returncode == 0, done.stderr
        wrong = chpnet("send", scan, "--port", server.port, "--property", "metod=rss")
    same_pixels(images_in(out), wanted)
    assert wrong.returncode == 1
    assert "did you mean 'method'" in wrong.stderr


def test_images_as_uint16_and_two_series(tmp_path: Path, scan: Path, server: Running) -> None:
    out = tmp_path / "out.h5"
    words = ["--property", "dtype=uint16", "--property", "send_baseline=true"]
    done = chpnet("send", scan, "--port", server.port, "-o", out, *words)
    assert done.returncode == 0, done.stderr
    for series, method in (("image_1", "chpnet"), ("image_2", "cg-sense")):
        images = images_in(out, series)
        assert len(images) == 6
        assert {i.data.dtype for i in images} == {np.dtype(np.uint16)}
        assert {i.meta["ChpnetMethod"] for i in images} == {method}


def test_an_error_of_the_server_is_one_line(tmp_path: Path, scan: Path, server: Running) -> None:
    out = tmp_path / "out.h5"
    done = chpnet("send", scan, "--port", server.port, "-o", out, "--config", "chpnet_cartesia")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "unknown configuration 'chpnet_cartesia'; did you mean 'chpnet_cartesian'?" in line
    assert list(tmp_path.iterdir()) == []


def test_what_came_of_an_incomplete_scan_is_kept(
    tmp_path: Path, scan: Path, server: Running
) -> None:
    out = tmp_path / "out.h5"
    done = chpnet("send", scan, "--port", server.port, "-o", out, "--expect", 7, "--json")
    assert done.returncode == 1
    assert "found 6 images, expected 7" in done.stderr
    assert not out.exists()
    kept = tmp_path / "out_incomplete.h5"
    assert json.loads(done.stdout)["file"] == str(kept)
    assert len(images_in(kept)) == 6


def test_words_that_make_no_sense(tmp_path: Path, scan: Path) -> None:
    for words, fault in (
        (["--pace", "fast"], "expected realtime or how many times faster"),
        (["--config", "a", "--config-file", scan], "expected one of them"),
        (["-o", scan], "is the scan itself"),
        (["--group", "other"], "no group 'other'"),
        (["--images"], "no images in /dataset"),
    ):
        done = chpnet("send", scan, *words, "--wait", 0)
        assert done.returncode == 2, done.stderr
        assert fault in done.stderr


def test_the_configurations_are_listed() -> None:
    listed = json.loads(chpnet("serve", "--list", "--json", "--alias", "Brain=rss").stdout)
    found = {one["name"]: one for one in listed}
    assert found["Brain"]["properties"] == {"method": "rss"}
    assert found["chpnet_grappa_enhance"]["takes"] == "images"


def test_a_second_signal_ends_at_once(scan: Path) -> None:
    made = Running("serve")
    try:
        with socket.create_connection(("127.0.0.1", made.port)) as sock:
            sock.sendall(raw(Query(b"gadgetron::version", 1)))
            assert sock.recv(2) == b"\7\0"  # it has us, and this scan does not end by itself
            made.process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                made.process.wait(1)
            made.process.send_signal(signal.SIGTERM)
            assert made.process.wait(20) == -signal.SIGTERM
    finally:
        made.process.kill()
        made.process.communicate()


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
