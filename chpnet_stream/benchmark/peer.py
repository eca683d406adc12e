"""The peer of a measured gadget: starts it, sends at the pace of a scan, and looks at the clock."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import ismrmrd

from chpnet_stream.benchmark.gadget import REPORT, THREADS
from chpnet_stream.benchmark.scan_bytes import ScanBytes
from chpnet_stream.errors import PeerError, PeerGoneError
from chpnet_stream.mrd.wire.byte_stream import SocketStream
from chpnet_stream.mrd.wire.messages import Close, ErrorText, Text
from chpnet_stream.mrd.wire.reader import MessageReader
from chpnet_stream.mrd.wire.writer import message_parts

OURS = ("chpnet_stream.benchmark.gadget", "serve")
FLOOR = ("gadgetron.examples", "recon_acquisitions")
"""The gadgetron package's own example: FFT and root sum of squares."""

PATIENCE = 300.0
"""Seconds that a gadget may take to connect, and for a single image, before it is given up."""

GLANCE = 1.0
"""Seconds between two looks whether a gadget that has not connected still lives."""

LAST_WORDS = 2.0
"""Seconds for a gadget that has hung up to end, and for what it said to be read."""

LAST_LINES = 5
"""Lines of its log that are shown then."""


@dataclass
class Streamed:
    """What was seen of one scan.

    Attributes:
        latencies_ms: From a slice's last byte sent to its image's last byte received; the first is
            that of the cold gadget.
        start_s: From the start of the process to the first image.
        burst_s: From the first to the last image of a burst sent without a pause.
        burst: Slices in the burst.
        methods: Images by the method that made them, as their meta say.
        engines: Images of the network by the engine that made them, as their meta say.
        fallback: Why the first image that is not the network's is not, as its meta say.
        report: What the gadget's process saw (`gadget`); empty for another gadget.
    """

    latencies_ms: list[float] = field(default_factory=list)
    start_s: float = 0.0
    burst_s: float = 0.0
    burst: int = 0
    methods: dict[str, int] = field(default_factory=dict)
    engines: dict[str, int] = field(default_factory=dict)
    fallback: str = ""
    report: dict[str, Any] = field(default_factory=dict)


def stream(
    scan: ScanBytes,
    slices: int,
    *,
    target: tuple[str, str] = OURS,
    properties: Mapping[str, str] | None = None,
    engine: str = "",
    rate: float = 0.0,
    threads: int = 0,
    burst: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Streamed:
    """Send a series of slices through a gadget and take its images.

    Args:
        scan: What is sent.
        slices: How many, behind a first one for which the gadget is still cold.
        target: Module and function of the gadget.
        properties: Properties of the gadget's configuration.
        engine: What images of the network must be made by, as engines call themselves; any, if "".
        rate: Slices a second, their lines evenly spread; 0: each when the image before has come.
        threads: CPU threads of the gadget; 0 for all cores.
        burst: Slices sent at the end without a pause, to see how many a second can be done.
        progress: Called with every image.

    Raises:
        PeerError: The gadget told an error.
        PeerGoneError: It died, hung up, sent no image for `PATIENCE` seconds, or one by another
            engine; tells the end of its log.
    """
    with _Process(target, threads) as process:
        seen = Streamed()
        arrivals = _Arrivals(process.socket, progress, seen, engine)
        try:
            _series(process, arrivals, scan, slices, dict(properties or {}), rate, burst)
        except PeerError:
            raise
        except (OSError, PeerGoneError) as error:
            arrivals.join(LAST_WORDS)
            if isinstance(arrivals.error, PeerError):  # what it said before it went
                raise arrivals.error from error
            raise process.gone(len(arrivals.times), error) from error
        seen.report = process.end()
        return seen


def _series(
    process: _Process,
    arrivals: _Arrivals,
    scan: ScanBytes,
    slices: int,
    properties: dict[str, str],
    rate: float,
    burst: int,
) -> None:
    """See `stream`."""
    seen = arrivals.seen
    arrivals.start()
    process.socket.sendall(scan.greeting(properties) + scan.noise)
    sent: list[float] = []
    for number in range(1 + slices):
        arrivals.check()
        sent.append(_send(process.socket, scan, number, rate if number else 0.0))
        if not rate or number == 0:
            arrivals.wait_for(number + 1)
        if number == 0:
            seen.start_s = arrivals.times[0] - process.started
    arrivals.wait_for(1 + slices)
    if burst:
        begin = time.monotonic()
        for number in range(1 + slices, 1 + slices + burst):
            _send(process.socket, scan, number, 0.0)
        arrivals.wait_for(1 + slices + burst)
        seen.burst, seen.burst_s = burst, arrivals.times[-1] - begin
    process.socket.sendall(b"".join(bytes(p) for p in message_parts(Close())))
    arrivals.join(PATIENCE)
    times = arrivals.times[: 1 + slices]
    seen.latencies_ms = [1e3 * (a - s) for a, s in zip(times, sent, strict=True)]


def _send(sock: socket.socket, scan: ScanBytes, number: int, rate: float) -> float:
    """Send a slice; returns when its last byte was handed over."""
    begin = time.monotonic()
    gap = 1 / rate / scan.lines if rate else 0.0
    for place, line in enumerate(scan.slice(number), 1):
        if gap:
            time.sleep(max(0.0, begin + place * gap - time.monotonic()))
        sock.sendall(line)
    return time.monotonic()


class _Process:
    """`python -m gadgetron PORT MODULE TARGET` as Gadgetron starts it, standard input closed."""

    def __init__(self, target: tuple[str, str], threads: int) -> None:
        self.name = ".".join(target)
        self.folder = tempfile.TemporaryDirectory(prefix="chpnet-bench-")
        self.listener = socket.create_server(("localhost", 0), family=_family())
        self._log: IO[bytes] = (Path(self.folder.name) / "log").open("w+b")
        environment = os.environ | {
            REPORT: str(Path(self.folder.name) / "report.json"),
            "GADGETRON_EXTERNAL_LOG_LEVEL": "WARNING",
        }
        if threads:
            environment |= {THREADS: str(threads), "OMP_NUM_THREADS": str(threads)}
        port = self.listener.getsockname()[1]
        self.started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "gadgetron", str(port), *target],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=environment,
        )

    def __enter__(self) -> _Process:
        try:
            self.socket = self._accept()
        except BaseException:
            self._clean()
            raise
        self.socket.settimeout(PATIENCE)
        return self

    def _accept(self) -> socket.socket:
        """The gadget's connection.

        Raises:
            PeerGoneError: It ended first, or lives and doesn't connect.
        """
        self.listener.settimeout(GLANCE)
        while time.monotonic() < self.started + PATIENCE:
            try:
                return self.listener.accept()[0]
            except TimeoutError:
                if self.process.poll() is not None:
                    raise PeerGoneError(self._death()) from None
        raise PeerGoneError(
            f"the gadget {self.name} goes on running, but did not connect within {PATIENCE:g} s; "
            f"it said: {self._said()}"
        )

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.socket.close()
        self._clean()

    def end(self) -> dict[str, Any]:
        """Wait for the process; what it has to tell."""
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise PeerGoneError("the gadget's process does not end after CLOSE") from None
        path = Path(self.folder.name) / "report.json"
        report: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        return report

    def gone(self, images: int, error: Exception) -> PeerGoneError:
        """What to tell of a gadget that has hung up in the middle of a scan.

        Args:
            images: Those that it has sent.
            error: What was noticed of it.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(LAST_WORDS)
        status = self.process.poll()
        state = "goes on running" if status is None else f"ended with status {status}"
        noticed = str(error) if isinstance(error, PeerGoneError) else f"it hung up ({error})"
        return PeerGoneError(
            f"the gadget {self.name} was given up after {images} images: {noticed}; its process "
            f"{state}. The end of its log: {self._said()}"
        )

    def _death(self) -> str:
        return f"the gadget {self.name} ended before it connected, it said: {self._said()}"

    def _said(self) -> str:
        """Its last lines in one."""
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return " | ".join(line.strip() for line in lines[-LAST_LINES:]) or "nothing"

    def _clean(self) -> None:
        self.listener.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()
        self.folder.cleanup()


class _Arrivals(threading.Thread):
    """Takes what the gadget sends, and the time."""

    def __init__(
        self, sock: socket.socket, progress: Callable[[], None], seen: Streamed, engine: str
    ) -> None:
        super().__init__(name="images", daemon=True)
        self.reader = MessageReader(SocketStream(sock))
        self.progress = progress
        self.seen = seen
        self.engine = engine
        self.times: list[float] = []
        self.error: Exception | None = None
        self._change = threading.Condition()  # of a lock that may be taken twice

    def run(self) -> None:
        try:
            while not isinstance(message := self.reader.read(), Close):
                now = time.monotonic()
                if message is None:
                    raise PeerGoneError("the gadget has gone without CLOSE; look at its log")
                if isinstance(message, ErrorText | Text):
                    raise PeerError(f"the gadget told an error: {message.text}")
                if isinstance(message, ismrmrd.Image):
                    self._take(message, now)
            raise PeerGoneError("the gadget said CLOSE before it had sent all images")
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            with self._change:
                self.error = error
                self._change.notify_all()

    def _take(self, image: Any, now: float) -> None:
        meta = dict(image.meta)
        method, engine = str(meta.get("ChpnetMethod", "other")), meta.get("ChpnetEngine")
        with self._change:
            self.times.append(now)
            self.seen.methods[method] = self.seen.methods.get(method, 0) + 1
            if engine is not None:
                self.seen.engines[engine] = self.seen.engines.get(engine, 0) + 1
            self.seen.fallback = self.seen.fallback or str(meta.get("ChpnetFallback", ""))
            self._change.notify_all()
        if self.engine and engine not in (None, self.engine):
            raise PeerGoneError(f"expected images by the engine {self.engine}, found {engine}")
        self.progress()

    def check(self) -> None:
        """Look whether all is well so far.

        Raises:
            PeerError, PeerGoneError: It is not, and no more images will come.
        """
        with self._change:
            if self.error is not None:
                raise self.error

    def wait_for(self, count: int) -> None:
        """Wait until so many images have come.

        Raises:
            PeerError, PeerGoneError: None will come, or none came for a long time.
        """
        with self._change:
            while len(self.times) < count:
                self.check()
                before = len(self.times)
                if not self._change.wait(PATIENCE) and len(self.times) == before:
                    raise PeerGoneError(f"no image from the gadget for {PATIENCE:g} s")


def _family() -> int:
    """What `localhost` is for who connects: the gadgetron package takes the first address."""
    return int(socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)[0][0])
