"""Messages from an MRD v2 stream."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

from chpnet_stream.errors import ChpnetError, PeerGoneError, ProtocolError
from chpnet_stream.mrd.v2.header import header_to_xml
from chpnet_stream.mrd.v2.items import item_to_v1
from chpnet_stream.mrd.v2.package import require_mrd
from chpnet_stream.mrd.wire import messages
from chpnet_stream.mrd.wire.byte_reader import PIECE_BYTES, ByteReader
from chpnet_stream.mrd.wire.byte_stream import ByteStream
from chpnet_stream.mrd.wire.limits import WireLimits

MAGIC = b"yardl"
FORMAT = 1
LARGEST_SCHEMA = 2**20
BUFFER_BYTES = 2**16


class Mrd2Reader:
    """Reads an MRD v2 stream as the messages of v1: HEADER, items, CLOSE.

    The package reads as much as its buffer holds; here it gets what there is, so that no line
    waits for the next one.

    Attributes:
        header: The header as it came, `mrd.Header`; None before, and where there is none.

    Args:
        stream: Where the bytes come from.
        limits: Largest sizes.

    Raises:
        ConfigurationError: mrd-python is not installed.
    """

    def __init__(self, stream: ByteStream, limits: WireLimits | None = None) -> None:
        require_mrd()
        self.header: Any = None
        self._bytes = ByteReader(stream, limits)
        self._messages: Iterator[Any] | None = None

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._bytes.position

    def read(self) -> Any | None:
        """The next message; None where there is nothing at all, or nothing behind CLOSE.

        Raises:
            ProtocolError: It is no MRD v2 stream, is damaged, or promises too much.
            PeerGoneError: It ends in the middle.
            HeaderError, InconsistentScanError: What it says can't be told in v1.
        """
        if self._messages is None:
            if self._bytes.at_end():
                return None
            self._messages = self._read()
        try:
            return next(self._messages, None)
        except ChpnetError:
            raise
        except EOFError as error:
            raise PeerGoneError(
                f"the MRD v2 stream ended at byte {self.position}, in the middle; whoever writes "
                "it died or was stopped"
            ) from error
        except Exception as error:  # the package's errors have no common root
            raise ProtocolError(
                f"the MRD v2 stream can't be read at byte {self.position} "
                f"({type(error).__name__}: {error}); it is damaged"
            ) from error

    def _read(self) -> Iterator[Any]:
        reader = _live_reader(self._bytes)
        self.header = reader.read_header()
        if self.header is not None:
            yield messages.Header(header_to_xml(self.header))
        for item in reader.read_data():
            yield item_to_v1(item)
        yield messages.Close()


def _live_reader(source: ByteReader) -> Any:
    """The package's reader behind the preamble of the stream, which is read here.

    Raises:
        ProtocolError: Another format, or another version of it.
    """
    import mrd

    source.begin("the beginning of an MRD v2 stream", LARGEST_SCHEMA)
    magic = bytes(source.bytes(len(MAGIC)))
    if magic != MAGIC:
        raise ProtocolError(
            f"the stream begins with {magic!r}, expected {MAGIC!r} as in MRD v2; it may be MRD v1 "
            "(--input-format mrd1)"
        )
    version = bytes(source.bytes(4))
    length = b""
    while not length or length[-1] & 0x80:
        length += bytes(source.bytes(1))
    size = sum((byte & 0x7F) << (7 * i) for i, byte in enumerate(length))
    schema = bytes(source.bytes(size, "schema"))
    if struct.unpack("<i", version)[0] != FORMAT or schema.decode() != mrd.BinaryMrdReader.schema:
        raise ProtocolError(
            "the stream is written by another version of MRD v2 than the installed mrd-python "
            f"{_installed()}; install the one of the sender, or convert the stream"
        )
    reader = mrd.BinaryMrdReader(io.BytesIO(magic + version + length + schema))
    reader._stream = _live_input(source)
    return reader


def _installed() -> str:
    from importlib.metadata import version

    return version("mrd-python")


def _live_input(source: ByteReader) -> Any:
    """The package's input stream, which here never waits for more than is needed."""
    from mrd._binary import CodedInputStream

    class LiveInput(CodedInputStream):
        _buffer: bytearray
        _view: memoryview
        _offset: int
        _last_read_count: int

        def _fill_buffer(self, min_count: int = 0) -> None:
            kept = self._last_read_count - self._offset
            self._buffer[:kept] = bytes(self._view[self._offset : self._last_read_count])
            self._offset, self._last_read_count = 0, kept
            while self._last_read_count < max(1, min_count):
                count = source.some(self._view[self._last_read_count :])
                if not count:
                    self._at_end = True
                    if min_count:
                        raise EOFError
                    return
                self._last_read_count += count

        def read_view(self, count: int) -> memoryview:
            if count > PIECE_BYTES:
                return memoryview(self.read_bytearray(count))
            self._check(count)
            return super().read_view(count)

        def read_bytearray(self, count: int) -> bytearray:
            self._check(count)
            data = super().read_bytearray(min(count, PIECE_BYTES))
            while (done := len(data)) < count:  # memory is taken as the bytes come
                data += super().read_bytearray(min(count - done, done))
            return data

        def _check(self, count: int) -> None:
            source.begin("an item of an MRD v2 stream", source.limits.item_bytes)
            source.check(count)

    return LiveInput(_Whole(source), buffer_size=BUFFER_BYTES)


class _Whole(io.BufferedIOBase):
    """Gives as many bytes as are asked for, as the package's stream expects of its source."""

    def __init__(self, source: ByteReader) -> None:
        self.source = source

    def readinto(self, view: Any) -> int:
        """Fill a view, but for the end of the stream."""
        done, rest = 0, memoryview(view)
        while len(rest) and (count := self.source.some(rest)):
            done, rest = done + count, rest[count:]
        return done
