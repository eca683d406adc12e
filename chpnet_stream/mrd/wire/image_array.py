"""Image arrays (id 1024): the images of Gadgetron's generic reconstructions, before the split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ismrmrd.acquisition import AcquisitionHeader
from ismrmrd.image import ImageHeader

from chpnet_stream.mrd.wire.arrays import (
    UINT64,
    array_parts,
    header_parts,
    optional_parts,
    read_array,
    read_count,
    read_headers,
    read_optional,
)
from chpnet_stream.mrd.wire.byte_reader import ByteReader
from chpnet_stream.mrd.wire.byte_stream import Part
from chpnet_stream.mrd.wire.samples import WAVEFORM_HEADER_BYTES, read_waveform, waveform_parts


@dataclass
class ImageArray:
    """Images of one volume or series.

    Attributes:
        data: Complex64 `X Y Z CHA N S LOC`, in Fortran order.
        headers: `ismrmrd.ImageHeader` objects `N S LOC`.
        meta: Meta of every image, XML, in the order of the headers (N fastest).
        waveforms: Waveforms measured meanwhile, or None.
        acquisition_headers: `ismrmrd.AcquisitionHeader` objects `E1 E2 N S LOC`, or None.
    """

    data: np.ndarray
    headers: np.ndarray
    meta: list[bytes]
    waveforms: list[Any] | None = None
    acquisition_headers: np.ndarray | None = None


def read_image_array(reader: ByteReader) -> ImageArray:
    """Data, headers, meta, and the optional parts."""
    data = read_array(reader, "<c8")
    headers = read_headers(reader, ImageHeader)
    count = read_count(reader, UINT64.size, "meta")
    meta = [_read_meta(reader) for _ in range(count)]
    waveforms = read_optional(reader, _read_waveforms)
    acquisitions = read_optional(reader, _read_acquisition_headers)
    return ImageArray(data, headers, meta, waveforms, acquisitions)


def image_array_parts(array: ImageArray) -> list[Part]:
    """The bytes of `read_image_array`."""
    parts = [*array_parts(array.data, "<c8"), *header_parts(array.headers)]
    parts.append(UINT64.pack(len(array.meta)))
    for meta in array.meta:
        parts += [UINT64.pack(len(meta)), meta]
    parts += optional_parts(None if array.waveforms is None else _waveform_parts(array.waveforms))
    headers = array.acquisition_headers
    parts += optional_parts(None if headers is None else header_parts(headers))
    return parts


def _read_meta(reader: ByteReader) -> bytes:
    (size,) = reader.unpack(UINT64)
    return bytes(reader.bytes(size, "meta"))


def _read_waveforms(reader: ByteReader) -> list[Any]:
    count = read_count(reader, WAVEFORM_HEADER_BYTES, "waveforms")
    return [read_waveform(reader) for _ in range(count)]


def _waveform_parts(waveforms: list[Any]) -> list[Part]:
    parts: list[Part] = [UINT64.pack(len(waveforms))]
    for waveform in waveforms:
        parts += waveform_parts(waveform)
    return parts


def _read_acquisition_headers(reader: ByteReader) -> np.ndarray:
    return read_headers(reader, AcquisitionHeader)
