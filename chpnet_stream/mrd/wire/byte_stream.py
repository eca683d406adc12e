"""Streams of bytes that messages travel on: sockets, pipes, memory."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Sequence
from typing import Protocol

from chpnet_stream.errors import PeerGoneError, StalledPeerError

JOINED_BYTES = 2**18
"""Up to this size the parts of a message are copied together, for a single system call."""

Part = bytes | bytearray | memoryview


class ByteStream(Protocol):
    """Where bytes come from and go to."""

    def read_into(self, view: memoryview) -> int:
        """Fill the beginning of `view`; returns how much came, 0 at the end of the stream.

        Raises:
            PeerGoneError: The connection broke.
        """

    def write(self, parts: Sequence[Part]) -> None:
        """Send all parts, one behind the other.

        Raises:
            PeerGoneError: The peer takes no more.
        """

    def is_dead(self) -> bool:
        """Whether the peer has gone for good, so far as that can be told without reading."""

    def close(self) -> None:
        """Let go of the stream; a reader that waits in it wakes up."""


class SocketStream:
    """A connected socket, blocking.

    Args:
        sock: The socket; it belongs to the stream from now on.
        patience: Seconds that a peer may send nothing, or take nothing; 0 for any time.
    """

    def __init__(self, sock: socket.socket, patience: float = 0.0) -> None:
        self.socket = sock
        self.be_patient(patience)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.suppress(OSError):  # small messages at once: no waiting for more
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def be_patient(self, seconds: float) -> None:
        """Wait so long for a peer that sends nothing, or takes nothing; 0 for any time."""
        self.patience = seconds
        self.socket.settimeout(seconds or None)

    def read_into(self, view: memoryview) -> int:
        """See `ByteStream.read_into`.

        Raises:
            StalledPeerError: Nothing came for too long.
        """
        try:
            return self.socket.recv_into(view)
        except TimeoutError as error:
            raise StalledPeerError(
                f"nothing came for {self.patience:g} s, expected the next message or CLOSE; the "
                "peer hangs, or pauses for longer than this server waits"
            ) from error
        except OSError as error:
            raise PeerGoneError(f"the connection broke while reading: {error.strerror}") from error

    def write(self, parts: Sequence[Part]) -> None:
        """See `ByteStream.write`.

        Raises:
            PeerGoneError: Also where the peer took nothing for too long.
        """
        try:
            if sum(len(part) for part in parts) <= JOINED_BYTES:
                self.socket.sendall(b"".join(parts))
            else:
                for part in parts:
                    self.socket.sendall(part)
        except TimeoutError as error:
            raise PeerGoneError(
                f"the peer took no data for {self.patience:g} s, expected it to read what it is "
                "sent; it hangs"
            ) from error
        except OSError as error:
            raise PeerGoneError(f"the connection broke while writing: {error.strerror}") from error

    def says_something(self, seconds: float) -> bool | None:
        """Whether the peer sends something; None where it is there, and silent for so long.

        Args:
            seconds: How long to wait for it.
        """
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return not self.is_dead() if poll.poll(1e3 * seconds) else None

    def is_dead(self) -> bool:
        """See `ByteStream.is_dead`; a peer that closed only its sending side counts as dead."""
        try:
            poll = select.poll()
            poll.register(self.socket, select.POLLIN)
            if not poll.poll(0):
                return False
            return not self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except (OSError, ValueError):
            return True

    def close(self) -> None:
        """See `ByteStream.close`; what was written still reaches the peer."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class PipeStream:
    """Two file descriptors, for pipes: one to read, one to write. They are not closed here.

    Args:
        source: To read from.
        sink: To write to.
    """

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink
        self._woken, self._waker = os.pipe()
        self._closed = False
        self._closing = threading.Lock()
        self._poll = select.poll()
        self._poll.register(source, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)

    def read_into(self, view: memoryview) -> int:
        """See `ByteStream.read_into`."""
        try:
            ready = [fd for fd, _ in self._poll.poll()]
            if self._woken in ready or self._closed:
                raise PeerGoneError("the pipe was let go of while reading")
            return os.readv(self.source, [view])
        except OSError as error:
            raise PeerGoneError(f"the pipe broke while reading: {error.strerror}") from error

    def write(self, parts: Sequence[Part]) -> None:
        """See `ByteStream.write`; where the reader of the pipe has gone, ours need not go on."""
        if self._closed:
            raise PeerGoneError("the pipe was let go of, nothing more can be written")
        try:
            if sum(len(part) for part in parts) <= JOINED_BYTES:
                parts = [b"".join(parts)]
            for part in parts:
                rest = memoryview(part).cast("B")
                while len(rest):
                    rest = rest[os.write(self.sink, rest) :]
        except OSError as error:
            self.close()
            raise PeerGoneError(
                f"the pipe broke while writing ({error.strerror}); whatever reads our output has "
                "ended"
            ) from error

    def is_dead(self) -> bool:
        """Whether whoever reads our output has gone."""
        poll = select.poll()
        poll.register(self.sink, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))

    def close(self) -> None:
        """See `ByteStream.close`."""
        with self._closing:
            if not self._closed:
                self._closed = True
                os.close(self._waker)  # whoever waits in `read_into` sees the end of this pipe


class BytesStream:
    """Bytes in memory: a recording to read, and what is written to it.

    Args:
        data: What can be read.
        piece: Bytes that come at a time, at most; 0 for as many as are wanted.
    """

    def __init__(self, data: Part = b"", piece: int = 0) -> None:
        self._data = memoryview(data)
        self._piece = piece
        self.written = bytearray()

    def read_into(self, view: memoryview) -> int:
        """See `ByteStream.read_into`."""
        n = min(len(view), len(self._data), self._piece or len(view))
        view[:n] = self._data[:n]
        self._data = self._data[n:]
        return n

    def write(self, parts: Sequence[Part]) -> None:
        """See `ByteStream.write`."""
        for part in parts:
            self.written += part

    def is_dead(self) -> bool:
        """Memory doesn't die."""
        return False

    def close(self) -> None:
        """Nothing to let go of."""
