"""Bare arrays between other items of a stream: handed on, never looked into."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from chpnet_stream.errors import ProtocolError
from chpnet_stream.mrd.wire.arrays import samples_part
from chpnet_stream.mrd.wire.byte_reader import ByteReader
from chpnet_stream.mrd.wire.byte_stream import Part
from chpnet_stream.mrd.wire.image import PIXELS

HEAD = struct.Struct("<HHH")
"""data_type, version, number of axes. Source: ISMRMRD 1.15, `libsrc/serialization.cpp`."""


@dataclass(frozen=True)
class NdArray:
    """An array, its sizes as they came."""

    data_type: int
    version: int
    sizes: tuple[int, ...]
    data: np.ndarray


def read_nd_array(reader: ByteReader) -> NdArray:
    """An array, whose values are kept in the order in which they come.

    Raises:
        ProtocolError: An unknown type, or too many axes or values.
    """
    kind, version, axes = reader.unpack(HEAD)
    if kind not in PIXELS or axes > reader.limits.dimensions:
        raise ProtocolError(
            f"an array has data_type {kind} and {axes} axes, expected 1 to 8 and at most "
            f"{reader.limits.dimensions}; the stream is damaged"
        )
    sizes = tuple(int(n) for n in reader.array("<u8", (axes,), "axes"))
    return NdArray(kind, version, sizes, reader.array(PIXELS[kind], sizes, "values"))


def nd_array_parts(array: NdArray) -> list[Part]:
    """The bytes of `read_nd_array`."""
    sizes = struct.pack(f"<{len(array.sizes)}Q", *array.sizes)
    head = HEAD.pack(array.data_type, array.version, len(array.sizes))
    return [head, sizes, samples_part(array.data)]
