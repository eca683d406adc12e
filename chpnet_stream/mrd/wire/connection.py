"""One scan's conversation with a peer: what a door talks to."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import ismrmrd

from chpnet_stream.errors import (
    ChpnetError,
    PeerError,
    PeerGoneError,
    ProtocolError,
    StalledPeerError,
)
from chpnet_stream.mrd.header import ScanHeader
from chpnet_stream.mrd.wire import messages
from chpnet_stream.mrd.wire.byte_stream import ByteStream, SocketStream
from chpnet_stream.mrd.wire.configuration import properties
from chpnet_stream.mrd.wire.limits import WireLimits
from chpnet_stream.mrd.wire.reader import MessageReader
from chpnet_stream.mrd.wire.writer import MessageWriter

Peer = Literal["gadgetron", "mrd"]
DRAIN_SECONDS = 5.0
"""How long a peer that was told of an error may go on sending before it is cut off."""

MOST_EARLY_TEXTS = 64
"""TEXT before the header: parameters in JSON, and what a client says to the log."""

logger = logging.getLogger(__name__)


class Reader(Protocol):
    """Reads messages, as `MessageReader` does."""

    @property
    def position(self) -> int:
        """Bytes read so far."""

    def read(self) -> Any | None:
        """The next message; None where the stream ends between two messages."""


class Writer(Protocol):
    """Writes messages, as `MessageWriter` does."""

    def write(self, item: Any) -> None:
        """Send a message."""

    def fail(self, words: Any) -> None:
        """Say what went wrong, as far as the format can, and end the stream."""


class Connection:
    """Configuration and header, then items until CLOSE; images, or an error, the other way.

    Nothing is read before `greet`. Sending is safe from any thread.

    Attributes:
        config: The configuration as it came; None where the peer named one of ours (`filename`).
        filename: Name of a configuration, in MRD; None otherwise.
        header_xml: The header as it came; None before it came, and where images come without one.
        header: What the scan says of itself.
        keep_text: TEXT of the peer is an item like others; by default it is only logged.
        early_texts: Such TEXT before the header.
        closed_by_peer: The peer has said CLOSE.

    Args:
        stream: Where the bytes travel.
        peer: What is told of an error: Gadgetron gets ERROR, an MRD client gets TEXT; CLOSE both.
        limits: Largest sizes that are read.
        reader: Reads messages of another format.
        writer: Writes messages of another format.
        one_way: What is written goes to somebody else than what is read comes from: where the
            reading ends too early, what was read is still worked on and told.
    """

    def __init__(
        self,
        stream: ByteStream,
        peer: Peer = "gadgetron",
        limits: WireLimits | None = None,
        *,
        reader: Reader | None = None,
        writer: Writer | None = None,
        one_way: bool = False,
    ) -> None:
        self.stream = stream
        self.peer = peer
        self.one_way = one_way
        self.config: bytes | None = None
        self.filename: str | None = None
        self.header_xml: bytes | None = None
        self.keep_text = False
        self.early_texts: list[str] = []
        self.closed_by_peer = False
        self._header: ScanHeader | None = None
        self._next_of_all: Any = None
        self._fault: ChpnetError | None = None
        self._lost: StalledPeerError | None = None
        self._reader = reader or MessageReader(stream, limits)
        self._writer = writer or MessageWriter(stream)
        self._ended = threading.Lock()

    @classmethod
    def taken_over(cls, package_connection: Any, limits: WireLimits | None = None) -> Connection:
        """The conversation that the gadgetron package has begun, with its socket.

        The package has read configuration and header by then. Its object keeps nothing that could
        write to the socket, or close it, when the target returns.

        Args:
            package_connection: A `gadgetron.external.Connection`.
            limits: Largest sizes that are read.
        """
        sock: socket.socket = package_connection.socket.socket
        raw = package_connection.raw_bytes
        package_connection.socket = _HandedOver()
        connection = cls(SocketStream(sock), "gadgetron", limits)
        connection.config = bytes(raw.config)
        connection.header_xml = bytes(raw.header)
        return connection

    @property
    def header(self) -> ScanHeader:
        """What the scan says of itself; known after `greet`.

        Raises:
            ProtocolError: There is none.
            HeaderError: It can't be understood.
        """
        if self._header is None:
            if self.header_xml is None:
                raise ProtocolError("the scan's header has not come yet, expected it first")
            self._header = ScanHeader.from_xml(self.header_xml.rstrip(b"\0"))
        return self._header

    @property
    def properties(self) -> dict[str, str]:
        """Properties of the configuration; none where there is no configuration.

        Raises:
            ConfigurationError: It is no XML.
        """
        return properties(self.config or b"")

    def answer(self, reply: Callable[[str], str]) -> bool:
        """Answer the queries that come before anything else.

        Args:
            reply: Gives the answer to a query.

        Returns:
            Whether a scan comes behind them; False where there were only queries, and CLOSE. What
            is wrong with the stream is raised by `greet`.
        """
        asked = False
        try:
            while isinstance(message := self._next(), messages.Query):
                asked = True
                text = reply(message.text).encode("utf-8")
                self._writer.write(messages.Response(text, message.correlation))
        except ChpnetError as error:
            self._fault = error
            return True
        self._next_of_all = message
        return not (asked and isinstance(message, messages.Close))

    @contextlib.contextmanager
    def patience(self, seconds: float) -> Iterator[None]:
        """Give the peer so long for what is done inside of the `with` block; 0 for any time.

        Where it takes longer, the peer is told, the stream is let go of, and whoever reads gets
        `StalledPeerError`.
        """
        timer = threading.Timer(seconds, self._lose_patience, (seconds,))
        timer.daemon = True
        if seconds:
            timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _lose_patience(self, seconds: float) -> None:
        self.send_away(
            f"no header came for {seconds:g} s, expected a scan to begin by then; the peer hangs, "
            "or only looked whether somebody listens"
        )

    def send_away(self, text: str) -> None:
        """Tell the peer why, and let go of the stream; whoever reads gets `StalledPeerError`.

        Args:
            text: Why.
        """
        self._lost = StalledPeerError(text)
        self.fail(f"chpnet-stream: {text}")
        self.hang_up()

    def greet(self) -> None:
        """Read up to the header: FILENAME or CONFIG (or neither), and HEADER.

        An MRD client may send images without a header; its header is not looked into before
        somebody asks for it.

        Raises:
            ProtocolError: Something else comes.
            HeaderError: The header can't be understood.
        """
        while self.header_xml is None:
            message = self._next()
            if isinstance(message, messages.Config):
                self.config = message.raw
            elif isinstance(message, messages.Filename):
                self.filename = message.name
                if self.peer == "gadgetron":
                    logger.warning(
                        "the configuration '%s' is named and not looked at: a gadget takes "
                        "properties by CONFIG; `chpnet-stream serve` knows names",
                        message.name,
                    )
            elif isinstance(message, messages.Header):
                self.header_xml = message.raw
            elif isinstance(message, messages.Text):
                self.early_texts.append(message.text)
                if len(self.early_texts) > MOST_EARLY_TEXTS:
                    raise ProtocolError(
                        f"found {len(self.early_texts)} texts before the scan's header, expected "
                        f"at most {MOST_EARLY_TEXTS}; check the client"
                    )
            elif isinstance(message, ismrmrd.Image) and self.peer == "mrd":
                self._next_of_all = message
                return
            else:
                raise ProtocolError(
                    f"found {_kind(message)} before the scan's header, expected CONFIG and HEADER "
                    "first; check what is connected to this port"
                )
        if self.peer == "gadgetron":
            self.header  # noqa: B018 - read now: no scan of Gadgetron's can go on without

    def __iter__(self) -> Iterator[Any]:
        """Everything up to CLOSE.

        Raises:
            PeerGoneError: The stream ends without CLOSE.
            PeerError: The peer tells an error of its own.
            ProtocolError: A damaged stream, or a message out of place.
        """
        while True:
            try:
                message = self._next()
            except PeerGoneError as error:
                if self.one_way:
                    raise ProtocolError(str(error)) from error
                raise
            if isinstance(message, messages.Close):
                self.closed_by_peer = True
                return
            if isinstance(message, messages.Config | messages.Filename | messages.Header):
                raise ProtocolError(
                    f"found {_kind(message)} in the middle of a scan, expected data or CLOSE; "
                    "begin another scan with another connection"
                )
            yield message

    def send(self, item: Any) -> None:
        """Send an item.

        Raises:
            PeerGoneError: The peer takes no more.
            ProtocolError: There is no message for it.
        """
        self._writer.write(item)

    def close(self) -> None:
        """Say CLOSE: everything was sent. The second time, and after `fail`, nothing is done.

        Raises:
            PeerGoneError: The peer takes no more.
        """
        if self._ended.acquire(blocking=False):
            self._writer.write(messages.Close())

    def fail(self, text: str) -> None:
        """Tell the peer of an error, and CLOSE; as far as the peer can still be reached."""
        if not self._ended.acquire(blocking=False):
            return
        raw = text.encode("utf-8")
        kind = messages.ErrorText if self.peer == "gadgetron" else messages.Text
        with contextlib.suppress(PeerGoneError):
            self._writer.fail(kind(raw))

    def hang_up(self) -> None:
        """Let go of the stream; whoever waits for a message is woken by `PeerGoneError`."""
        self.stream.close()

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Take and forget what the peer still sends, for some time at most.

        To close a socket with unread data would take back what was sent last, the error.
        """
        timer = threading.Timer(seconds, self.hang_up)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no thread that would end it
            return
        scrap = memoryview(bytearray(2**16))
        try:
            with contextlib.suppress(PeerGoneError, StalledPeerError):
                while self.stream.read_into(scrap):
                    pass
        finally:
            timer.cancel()

    def _next(self) -> Any:
        """The next message; TEXT is logged, unless it is kept."""
        if self._fault is not None:
            raise self._fault
        if self._next_of_all is not None:
            message, self._next_of_all = self._next_of_all, None
            return message
        while True:
            try:
                message = self._reader.read()
            except PeerGoneError:
                if self._lost is not None:
                    raise self._lost from None
                raise
            if message is None:
                raise PeerGoneError(
                    f"the stream ended at byte {self._reader.position} without CLOSE, the "
                    "scan is incomplete; the peer died or was stopped"
                )
            if isinstance(message, messages.ErrorText):
                raise PeerError(f"the peer told an error: {message.text}")
            if self.keep_text or not isinstance(message, messages.Text):
                return message
            tell_text(logger, "the peer", message.text)


def tell_text(log: logging.Logger, who: str, text: str) -> None:
    """Log that somebody said something, not what: free words of a peer may name a patient.

    Args:
        log: Where to.
        who: Who said it.
        text: The words.
    """
    log.info("%s says something in %d characters", who, len(text))


class _HandedOver:
    """Stands where the gadgetron package had its socket: leaves alone what is ours now."""

    def read(self, size: int) -> bytes:
        """Nothing may be read here any more."""
        raise ProtocolError("the connection belongs to chpnet-stream, nobody else may read it")

    def write(self, data: Any) -> None:
        """Nothing may be written here any more."""
        raise ProtocolError("the connection belongs to chpnet-stream, nobody else may write to it")

    def close(self) -> None:
        """CLOSE was said, and the socket closed, by its new owner."""


def _kind(message: Any) -> str:
    return type(message).__name__.upper()
