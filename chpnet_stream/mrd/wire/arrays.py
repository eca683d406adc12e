"""Arrays, vectors and optional parts as Gadgetron's serialisation has them.

An array is the vector of its sizes (first axis fastest, Fortran order) and its values; a vector
is a uint64 count and its values; an optional part is preceded by a byte, 0 or 1. Source:
Gadgetron 4.7, `core/io/primitives.h`.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from chpnet_stream.errors import ProtocolError
from chpnet_stream.mrd.wire.byte_reader import ByteReader
from chpnet_stream.mrd.wire.byte_stream import Part
from chpnet_stream.size_limits import VARIABLE

T = TypeVar("T")
UINT64 = struct.Struct("<Q")
FLAG = struct.Struct("<B")


def read_count(reader: ByteReader, each: int, of: str) -> int:
    """A uint64 count of things of at least `each` bytes, refused where so many can't follow."""
    (count,) = reader.unpack(UINT64)
    reader.check(count * each, of)
    return int(count)


def read_shape(reader: ByteReader) -> tuple[int, ...]:
    """Sizes of an array, first axis fastest."""
    count = read_count(reader, UINT64.size, "axes")
    if count > reader.limits.dimensions:
        raise ProtocolError(
            f"an array has {count} axes, expected at most {reader.limits.dimensions}; the stream "
            f"is damaged, or needs a higher limit ({VARIABLE}=dimensions=...)"
        )
    shape = tuple(int(n) for n in reader.array("<u8", (count,), "axes"))
    reader.check(math.prod(n for n in shape if n), "values")  # also where another axis is empty
    return shape


def read_array(reader: ByteReader, dtype: str) -> np.ndarray:
    """An array in Fortran order, writable."""
    shape = read_shape(reader)
    return reader.array(dtype, tuple(reversed(shape))).transpose()


def array_parts(array: np.ndarray, dtype: str) -> list[Part]:
    """The bytes of `read_array`; copies only where type or memory order differ."""
    values = np.asfortranarray(array, dtype=np.dtype(dtype))
    return [shape_part(array.shape), samples_part(values.ravel(order="F"))]


def shape_part(shape: Sequence[int]) -> bytes:
    """The bytes of `read_shape`."""
    return struct.pack(f"<{len(shape) + 1}Q", len(shape), *shape)


def samples_part(values: np.ndarray) -> Part:
    """The memory of an array in C order, copied only where it is not in that order."""
    if values.size == 0:
        return b""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def read_headers(reader: ByteReader, kind: type[Any]) -> np.ndarray:
    """An array of header structures, as an array of objects."""
    shape = read_shape(reader)
    count = 1
    for n in shape:
        count *= n
    size = ctypes.sizeof(kind)
    raw = reader.bytes(count * size, "headers")
    headers = np.empty(count, dtype=object)
    for i in range(count):
        headers[i] = kind.from_buffer(raw, i * size)
    return headers.reshape(shape, order="F")


def header_parts(headers: np.ndarray) -> list[Part]:
    """The bytes of `read_headers`."""
    return [shape_part(headers.shape), b"".join(bytes(h) for h in headers.ravel(order="F"))]


def read_optional(reader: ByteReader, read: Callable[[ByteReader], T]) -> T | None:
    """A part that may be absent."""
    (there,) = reader.unpack(FLAG)
    if there not in (0, 1):
        raise ProtocolError(
            f"found the byte {there} where a part is told to be absent (0) or there (1); the "
            "stream is damaged"
        )
    return read(reader) if there else None


def optional_parts(parts: list[Part] | None) -> list[Part]:
    """The bytes of `read_optional`."""
    return [FLAG.pack(0)] if parts is None else [FLAG.pack(1), *parts]
