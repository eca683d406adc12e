"""Recon data (id 1023): k-space that Gadgetron has put into arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ismrmrd.acquisition import AcquisitionHeader

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

FEWEST_BIT_BYTES = 100
"""A recon bit has more than that in sizes and limits alone."""


class SamplingLimit(ctypes.Structure):
    """First and last index measured along an axis, and the k-space centre."""

    _fields_ = (
        ("minimum", ctypes.c_uint16),
        ("center", ctypes.c_uint16),
        ("maximum", ctypes.c_uint16),
    )


class SamplingDescription(ctypes.Structure):
    """Geometry of a buffer, `(x, y, z)`; lengths in mm, with Gadgetron's padding (56 bytes)."""

    _fields_ = (
        ("encoded_fov", ctypes.c_float * 3),
        ("recon_fov", ctypes.c_float * 3),
        ("encoded_matrix", ctypes.c_uint16 * 3),
        ("recon_matrix", ctypes.c_uint16 * 3),
        ("limits", SamplingLimit * 3),
    )


@dataclass
class ReconBuffer:
    """An array of k-space and what belongs to it.

    Attributes:
        data: Complex64 `E0 E1 E2 CHA N S LOC`, in Fortran order.
        trajectory: Float32 `dimensions E0 E1 E2 N S LOC`, or None.
        density: Float32 `E0 E1 E2 N S LOC`, or None.
        headers: `ismrmrd.AcquisitionHeader` objects `E1 E2 N S LOC`; with number_of_samples 0
            where nothing was measured.
        sampling: Geometry.
    """

    data: np.ndarray
    trajectory: np.ndarray | None
    density: np.ndarray | None
    headers: np.ndarray
    sampling: Any


@dataclass
class ReconBit:
    """The data of one encoding space, and its reference (calibration) data."""

    data: ReconBuffer
    reference: ReconBuffer | None = None


@dataclass
class ReconData:
    """One message: a bit for every encoding space."""

    bits: list[ReconBit]

    def __iter__(self) -> Iterator[ReconBit]:
        return iter(self.bits)


def read_recon_data(reader: ByteReader) -> ReconData:
    """A count of bits, and the bits."""
    count = read_count(reader, FEWEST_BIT_BYTES, "recon bits")
    return ReconData([_read_bit(reader) for _ in range(count)])


def recon_data_parts(message: ReconData) -> list[Part]:
    """The bytes of `read_recon_data`."""
    parts: list[Part] = [UINT64.pack(len(message.bits))]
    for bit in message.bits:
        parts += _buffer_parts(bit.data)
        reference = bit.reference
        parts += optional_parts(None if reference is None else _buffer_parts(reference))
    return parts


def _read_bit(reader: ByteReader) -> ReconBit:
    data = _read_buffer(reader)
    return ReconBit(data, read_optional(reader, _read_buffer))


def _read_buffer(reader: ByteReader) -> ReconBuffer:
    data = read_array(reader, "<c8")
    trajectory = read_optional(reader, _read_floats)
    density = read_optional(reader, _read_floats)
    headers = read_headers(reader, AcquisitionHeader)
    raw = reader.bytes(ctypes.sizeof(SamplingDescription), "sampling")
    return ReconBuffer(data, trajectory, density, headers, SamplingDescription.from_buffer(raw))


def _buffer_parts(buffer: ReconBuffer) -> list[Part]:
    optional = [
        optional_parts(None if values is None else array_parts(values, "<f4"))
        for values in (buffer.trajectory, buffer.density)
    ]
    return [
        *array_parts(buffer.data, "<c8"),
        *optional[0],
        *optional[1],
        *header_parts(buffer.headers),
        bytes(buffer.sampling),
    ]


def _read_floats(reader: ByteReader) -> np.ndarray:
    return read_array(reader, "<f4")
