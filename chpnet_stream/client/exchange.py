"""Sends a scan to a server, and gathers what comes back meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import ismrmrd

from chpnet_stream.client.missing import missing_images
from chpnet_stream.client.pacing import Pacer
from chpnet_stream.client.report import SendReport
from chpnet_stream.client.request import Request
from chpnet_stream.client.source import Key, Source
from chpnet_stream.errors import (
    ChpnetError,
    InputError,
    MissingImagesError,
    PeerError,
    PeerGoneError,
    StalledPeerError,
)
from chpnet_stream.mrd.wire import messages
from chpnet_stream.mrd.wire.byte_stream import SocketStream
from chpnet_stream.mrd.wire.reader import MessageReader
from chpnet_stream.mrd.wire.writer import MessageWriter

WATCH_SECONDS = 0.1
RETRY_SECONDS = 0.2
HARMLESS = ("DEBUG", "INFO", "WARNING")
"""TEXT that begins with one of these is for the log (as python-ismrmrd-server marks it)."""


class ImageSink(Protocol):
    """Where received images go."""

    def append(self, image: Any) -> None:
        """Take an image."""


def connect(host: str, port: int, wait: float = 0.0) -> socket.socket:
    """Connect to a server.

    Args:
        host: Its address.
        port: Its port.
        wait: Seconds to go on trying while nobody listens.

    Raises:
        PeerGoneError: It can't be reached.
    """
    limit = time.monotonic() + wait
    while True:
        try:
            return socket.create_connection((host, port), timeout=max(wait, 10.0))
        except OSError as error:
            if time.monotonic() >= limit or isinstance(error, socket.gaierror):
                raise PeerGoneError(
                    f"can't reach {host} port {port}: {error.strerror or error}; is a server "
                    "listening there (`chpnet-stream serve`, `chpnet-stream gadget`)?"
                ) from error
            time.sleep(RETRY_SECONDS)


class Exchange:
    """One scan over one connection.

    Args:
        sock: Connected to the server; it belongs to the exchange from now on.
        source: What to send.
        request: What to ask for.
        pacer: When to send; None for as fast as it goes.
        sink: Where images go; None to count them only.
        timeout: Seconds without any progress after which the server is given up.
        images: How many images must come; by default as the scan promises.
    """

    def __init__(
        self,
        sock: socket.socket,
        source: Source,
        request: Request | None = None,
        *,
        pacer: Pacer | None = None,
        sink: ImageSink | None = None,
        timeout: float = 120.0,
        images: int | None = None,
    ) -> None:
        self.source = source
        self.request = request or Request()
        self.pacer = pacer
        self.sink = sink
        self.timeout = timeout
        self.images = source.images if images is None else images
        self.report = SendReport()
        self._stream = SocketStream(sock)
        self._writer = MessageWriter(self._stream)
        self._sent_at: dict[Key, float] = {}
        self._stop = threading.Event()
        self._progress = time.monotonic()
        self._failures: list[BaseException] = []
        self._broken: PeerGoneError | None = None
        self._told = ""

    def run(self, tell: Callable[[SendReport], None] | None = None) -> SendReport:
        """Send everything, and wait for everything.

        Args:
            tell: Called some times a second with the report so far.

        Returns:
            The report. What went wrong is in `error`: with the server, with the source that can't
            be read on, or with an image that can't be stored.
        """
        began = time.monotonic()
        sender = threading.Thread(target=self._guarded, args=(self._send,), name="sender")
        reader = threading.Thread(target=self._guarded, args=(self._receive,), name="reader")
        for thread in (sender, reader):
            thread.daemon = True
            thread.start()
        try:
            while reader.is_alive() and self.report.error is None and not self._failures:
                reader.join(WATCH_SECONDS)
                if time.monotonic() - self._progress > self.timeout:
                    self._fail(self._stalled())
                if tell is not None:
                    tell(self.report)
        finally:
            self._stop.set()
            self._stream.close()
        for thread in (sender, reader):
            thread.join()
        self.report.seconds = time.monotonic() - began
        self.report.gaps = self.pacer.gaps if self.pacer is not None else 0
        for failure in self._failures:
            if not isinstance(failure, InputError):
                raise failure
            self._fail(failure)  # what came before it is worth keeping
        if self.report.error is None:
            self.report.error = self._verdict()
        return self.report

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again by `run`
            self._failures.append(error)

    def _send(self) -> None:
        """Everything to the server, on the sending thread."""
        source, report = self.source, self.report
        try:
            self._writer.write(self.request.before_header())
            if source.header_xml is not None:
                self._writer.write(messages.Header(source.header_xml))
            for text in self.request.behind_header(source.more_config):
                self._writer.write(text)
            for item in source.items():
                if not self._paced(item):
                    return
                key = source.key_of_line(item)
                if key is not None:
                    self._sent_at[key] = time.monotonic()
                self._writer.write(item)
                report.sent[_kind(item)] += 1
                self._progress = time.monotonic()
            self._writer.write(messages.Close())
        except PeerGoneError as error:
            # What the server has said before it went may still be on its way: the reader knows.
            self._broken = error

    def _paced(self, item: Any) -> bool:
        """Wait until it is the item's time; False where the exchange is over before."""
        if self.pacer is None:
            return not self._stop.is_set()
        name = "time_stamp" if isinstance(item, ismrmrd.Waveform) else "acquisition_time_stamp"
        seconds = self.pacer.wait_for(int(getattr(item, name)))
        while seconds > 0 and not self._stop.is_set():
            self._progress = time.monotonic()
            step = min(seconds, 1.0)
            self._stop.wait(step)
            seconds -= step
        return not self._stop.is_set()

    def _receive(self) -> None:
        """Everything from the server, on the reading thread."""
        reader = MessageReader(self._stream)
        try:
            while (message := reader.read()) is not None:
                now = time.monotonic()
                self._progress = now
                if isinstance(message, messages.Close):
                    self.report.closed = True
                    return
                self._take(message, now)
        except PeerGoneError as error:
            self._broken = error
        except ChpnetError as error:
            self._fail(error)

    def _take(self, message: Any, now: float) -> None:
        report = self.report
        if isinstance(message, messages.ErrorText | messages.Text):
            report.texts.append(message.text)
            harmless = isinstance(message, messages.Text) and message.text.startswith(HARMLESS)
            if not harmless:
                self._told = message.text
        elif isinstance(message, ismrmrd.Image):
            key = self.source.key_of_image(message)
            report.received[int(message.image_series_index)][key] += 1
            sent_at = self._sent_at.get(key)
            if sent_at is not None:
                report.latencies_ms.append(1e3 * (now - sent_at))
            if self.sink is not None:
                self.sink.append(message)
        else:
            report.others[_kind(message)] += 1

    def _fail(self, error: ChpnetError) -> None:
        if self.report.error is None:
            self.report.error = error

    def _stalled(self) -> StalledPeerError:
        sent = sum(self.report.sent.values())
        return StalledPeerError(
            f"nothing came from the server for {self.timeout:g} s, and it took nothing (sent "
            f"{sent} of {self.source.total} items, received {self.report.images} of {self.images} "
            "images); it hangs, or needs a longer --timeout"
        )

    def _verdict(self) -> ChpnetError | None:
        """What the server did wrong, now that the exchange is over."""
        if self._told:
            return PeerError(f"the server told an error: {' '.join(self._told.split())}")
        missing = missing_images(self.report, self.source.expected, self.images, self.source.series)
        if not self.report.closed:
            reason = f" ({self._broken})" if self._broken is not None else ""
            count = missing or "all images have come"
            return PeerGoneError(
                f"the server closed the connection without CLOSE{reason}; {count}; it died, or "
                "refused the scan without a word"
            )
        if missing:
            return MissingImagesError(f"{missing}; the server ended without an error all the same")
        return None


def _kind(message: Any) -> str:
    """What a message is, in the plural."""
    return {"WireImage": "images"}.get(type(message).__name__, f"{type(message).__name__.lower()}s")
