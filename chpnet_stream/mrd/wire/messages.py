"""Messages that carry text or nothing: how a conversation begins, goes wrong and ends."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from chpnet_stream.errors import ProtocolError
from chpnet_stream.mrd.wire.byte_reader import ByteReader
from chpnet_stream.mrd.wire.byte_stream import Part

FILENAME_BYTES = 1024
UINT32 = struct.Struct("<I")
UINT64 = struct.Struct("<Q")
QUERY_HEAD = struct.Struct("<QQQ")
RESPONSE_HEAD = struct.Struct("<QQ")


@dataclass(frozen=True)
class Filename:
    """Name of a configuration that the server has."""

    name: str


@dataclass(frozen=True)
class Config:
    """A configuration: XML of Gadgetron, whatever the server understands in MRD."""

    raw: bytes


@dataclass(frozen=True)
class Header:
    """The ISMRMRD header of the scan, XML."""

    raw: bytes


@dataclass(frozen=True)
class Close:
    """Nothing more comes from this side."""


@dataclass(frozen=True)
class _Words:
    raw: bytes

    @property
    def text(self) -> str:
        """The words, without the zero that C programs end them with."""
        return self.raw.rstrip(b"\0").decode("utf-8", "replace")


@dataclass(frozen=True)
class Text(_Words):
    """Words for the peer's log; MRD clients are told errors by it."""


@dataclass(frozen=True)
class ErrorText(_Words):
    """An error, from a gadget to Gadgetron (uint64 length)."""


@dataclass(frozen=True)
class Query(_Words):
    """A question, such as `gadgetron::version`."""

    correlation: int = 0
    reserved: int = 0


@dataclass(frozen=True)
class Response(_Words):
    """The answer to the query of the same correlation."""

    correlation: int = 0


def read_filename(reader: ByteReader) -> Filename:
    """1024 bytes, of which the name goes up to the first zero."""
    raw = bytes(reader.bytes(FILENAME_BYTES, "file name"))
    name, _, _ = raw.partition(b"\0")
    return Filename(name.decode("utf-8", "replace"))


def filename_parts(message: Filename) -> list[Part]:
    """The bytes of `read_filename`.

    Raises:
        ProtocolError: The name is too long.
    """
    raw = message.name.encode("utf-8")
    if len(raw) >= FILENAME_BYTES:
        raise ProtocolError(
            f"a configuration name has {len(raw)} bytes, expected fewer than {FILENAME_BYTES}; "
            "send the configuration itself"
        )
    return [raw.ljust(FILENAME_BYTES, b"\0")]


def read_short(reader: ByteReader) -> bytes:
    """Text behind its uint32 length."""
    (size,) = reader.unpack(UINT32)
    return bytes(reader.bytes(size, "text"))


def short_parts(raw: bytes) -> list[Part]:
    """The bytes of `read_short`."""
    return [UINT32.pack(len(raw)), raw]


def read_error(reader: ByteReader) -> ErrorText:
    """Text behind its uint64 length."""
    (size,) = reader.unpack(UINT64)
    return ErrorText(bytes(reader.bytes(size, "text")))


def error_parts(message: ErrorText) -> list[Part]:
    """The bytes of `read_error`."""
    return [UINT64.pack(len(message.raw)), message.raw]


def read_query(reader: ByteReader) -> Query:
    """Three uint64 (reserved, correlation, length) and text."""
    reserved, correlation, size = reader.unpack(QUERY_HEAD)
    return Query(bytes(reader.bytes(size, "text")), correlation, reserved)


def query_parts(message: Query) -> list[Part]:
    """The bytes of `read_query`."""
    head = QUERY_HEAD.pack(message.reserved, message.correlation, len(message.raw))
    return [head, message.raw]


def read_response(reader: ByteReader) -> Response:
    """Two uint64 (correlation, length) and text."""
    correlation, size = reader.unpack(RESPONSE_HEAD)
    return Response(bytes(reader.bytes(size, "text")), correlation)


def response_parts(message: Response) -> list[Part]:
    """The bytes of `read_response`."""
    return [RESPONSE_HEAD.pack(message.correlation, len(message.raw)), message.raw]
