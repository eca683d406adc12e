"""Measured gadgets are real processes at the end of real sockets."""

import os
from pathlib import Path
from typing import Any

import pytest

from chpnet_stream.benchmark import peer
from chpnet_stream.benchmark.peer import FLOOR, stream
from chpnet_stream.benchmark.plan import Case
from chpnet_stream.benchmark.scan_bytes import ScanBytes
from chpnet_stream.errors import PeerError, PeerGoneError

RUDE = """
import os, socket, struct, sys

def serve(connection):
    sock = connection.socket.socket
    sock.recv(1000)  # what is left unread makes a reset of the end
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    print("one line", file=sys.stderr)
    print("I have had enough", file=sys.stderr, flush=True)
    os._exit(7)
"""

SILENT = """
import sys, threading

print("I think about it", file=sys.stderr, flush=True)
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def scan() -> ScanBytes:
    return ScanBytes(Case(64, 3))


def test_a_series_through_our_gadget(scan: ScanBytes) -> None:
    images = []
    seen = stream(
        scan,
        3,
        properties={"method": "cg-sense"},
        rate=20,
        threads=1,
        burst=2,
        progress=lambda: images.append(1),
    )
    assert len(images) == 6
    assert len(seen.latencies_ms) == 4
    assert all(ms > 0 for ms in seen.latencies_ms)
    assert seen.methods == {"cg-sense": 6}
    assert seen.engines == {}
    assert seen.start_s > 0
    assert seen.burst == 2
    assert seen.burst_s > 0
    assert seen.report["counted"]["images"] == 6
    assert seen.report["threads"] == 1
    assert seen.report["peak_mb"] > 50  # torch alone takes more
    assert {"calibration", "data", "cg-sense", "output"} <= set(seen.report["stages_ms"])


def test_the_floor_is_the_example_of_the_gadgetron_package(scan: ScanBytes) -> None:
    seen = stream(scan, 1, target=FLOOR)
    assert seen.methods == {"other": 2}
    assert len(seen.latencies_ms) == 2
    assert seen.report == {}


def test_what_a_gadget_says_ends_the_measurement(scan: ScanBytes) -> None:
    with pytest.raises(PeerError, match="unknown property 'colour'"):
        stream(scan, 1, properties={"colour": "blue"})


def test_a_gadget_that_is_not_there(scan: ScanBytes) -> None:
    with pytest.raises(PeerGoneError, match=r"gadget chpnet_stream.nothing.serve .*ModuleNotFound"):
        stream(scan, 1, target=("chpnet_stream.nothing", "serve"))


def test_a_gadget_that_resets_the_connection(
    scan: ScanBytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rude.py").write_text(RUDE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(PeerGoneError) as caught:
        stream(scan, 4, target=("rude", "serve"))
    told = str(caught.value)
    assert told.startswith("the gadget rude.serve was given up after 0 images: ")
    assert "its process ended with status 7. The end of its log: " in told
    assert told.endswith("one line | I have had enough")


def test_a_gadget_that_lives_and_does_not_connect(
    scan: ScanBytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "gadgetron"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(SILENT, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(peer, "PATIENCE", 2.0)
    with pytest.raises(PeerGoneError, match=r"goes on running, but did not connect within 2 s"):
        stream(scan, 1)


ONNX = {"engine": "onnx", "precision": "fp32"}


def test_images_by_another_engine_are_not_measured(scan: ScanBytes) -> None:
    images = []
    with pytest.raises(PeerGoneError) as caught:
        stream(
            *(scan, 3),
            properties=ONNX,
            engine="tensorrt-fp16",
            threads=1,
            progress=lambda: images.append(1),
        )
    told = str(caught.value)
    assert "expected images by the engine tensorrt-fp16, found onnx-cpu; its process " in told
    assert images == []


def test_an_engine_that_gives_up_in_the_middle_ends_the_measurement(
    scan: ScanBytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later(peer._Arrivals):
        def _take(self, image: Any, now: float) -> None:
            self.engine = "tensorrt-fp16" if self.times else ""
            super()._take(image, now)

    sent = []

    def counted(*words: Any) -> float:
        sent.append(1)
        return send(*words)

    send = peer._send
    monkeypatch.setattr(peer, "_Arrivals", Later)
    monkeypatch.setattr(peer, "_send", counted)
    with pytest.raises(PeerGoneError, match="given up after 2 images: expected images by the engi"):
        stream(scan, 600, properties=ONNX, rate=10, threads=1)
    assert len(sent) < 600
