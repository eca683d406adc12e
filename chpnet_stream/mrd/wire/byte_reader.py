"""Exact numbers of bytes from a stream, with a budget for every message."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from chpnet_stream.errors import PeerGoneError, ProtocolError
from chpnet_stream.mrd.wire.byte_stream import ByteStream
from chpnet_stream.mrd.wire.limits import WireLimits
from chpnet_stream.size_limits import VARIABLE

BUFFER_BYTES = 2**16
PIECE_BYTES = 2**20
"""What a message promises beyond this is believed as far as it has come, and as much again."""


class ByteReader:
    """Reads what a message promises, never more than its budget allows.

    Args:
        stream: Where the bytes come from.
        limits: Largest sizes.
    """

    def __init__(self, stream: ByteStream, limits: WireLimits | None = None) -> None:
        self.stream = stream
        self.limits = limits or WireLimits.configured()
        self.position = 0
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._ready = self._buffer[:0]
        self._what = "a message"
        self._budget = 0

    def begin(self, what: str, budget: int) -> None:
        """Begin a message: its name for errors, and the bytes that it may have in all."""
        self._what = what
        self._budget = budget

    def reserve(self, size: int, of: str = "data") -> int:
        """Take a size from the message's budget; returns it.

        Raises:
            ProtocolError: It is more than is left.
        """
        self.check(size, of)
        self._budget -= size
        return size

    def check(self, size: int, of: str = "data") -> None:
        """Make sure that so much may still come in this message.

        Raises:
            ProtocolError: It is more than is left of the budget.
        """
        if size > self._budget:
            raise ProtocolError(
                f"{self._what} at byte {self.position} promises {size} bytes of {of}, expected at "
                f"most {self._budget}; the stream is damaged, or needs higher limits ({VARIABLE})"
            )

    def at_end(self) -> bool:
        """Whether the stream ends here; waits for the next byte."""
        return not len(self._ready) and not self._fill()

    def bytes(self, size: int, of: str = "data") -> bytearray:
        """The next `size` bytes, in memory of their own.

        Raises:
            ProtocolError: They are more than the message may have.
            PeerGoneError: The stream ends before.
        """
        self.reserve(size, of)
        data = bytearray(min(size, PIECE_BYTES))
        self._read(memoryview(data), 0, size)
        while (done := len(data)) < size:  # a bytearray is cleared: its memory is taken at once
            data.extend(bytes(min(size - done, done)))
            with memoryview(data) as view:
                self._read(view[done:], done, size)
        return data

    def array(self, dtype: Any, shape: tuple[int, ...], of: str = "samples") -> np.ndarray:
        """The next samples, as a writable C-ordered array of a fixed little-endian type.

        Raises:
            ProtocolError: They are more than the message may have.
            PeerGoneError: The stream ends before.
        """
        kind = np.dtype(dtype)
        sizes = [int(n) for n in shape]
        self.check(kind.itemsize * math.prod(n for n in sizes if n), of)  # beside an empty axis too
        size = self.reserve(kind.itemsize * math.prod(sizes), of)
        data = np.empty(size, dtype=np.uint8)
        self._read(data.data)
        return data.view(kind).reshape(shape)

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The next values of a fixed layout."""
        return layout.unpack(self.bytes(layout.size, "counts"))

    def some(self, view: memoryview) -> int:
        """Fill the beginning of `view` with what is there; 0 at the end of the stream."""
        if not len(self._ready) and not self._fill():
            return 0
        count = min(len(self._ready), len(view))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        self.position += count
        return count

    def _read(self, view: memoryview, before: int = 0, size: int | None = None) -> None:
        """Fill a view, which begins `before` bytes into something of `size` bytes."""
        wanted = len(view)
        done = 0
        while done < wanted:
            if len(self._ready):
                n = min(len(self._ready), wanted - done)
                view[done : done + n] = self._ready[:n]
                self._ready = self._ready[n:]
                self.position += n
            elif wanted - done >= BUFFER_BYTES:
                n = self.stream.read_into(view[done:])
                self.position += n
            else:
                n = int(self._fill())
                if n:
                    continue
            if n == 0:
                raise PeerGoneError(
                    f"the stream ended at byte {self.position}, in the middle of {self._what} "
                    f"({before + done} of {size or wanted} bytes), expected CLOSE first; the peer "
                    "died or was stopped"
                )
            done += n

    def _fill(self) -> bool:
        n = self.stream.read_into(self._buffer)
        self._ready = self._buffer[:n]
        return n > 0
