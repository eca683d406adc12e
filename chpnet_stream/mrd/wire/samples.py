"""Acquisitions and waveforms, as the ismrmrd package's own objects."""

from __future__ import annotations

import ctypes
from typing import Any

import ismrmrd
import numpy as np
from ismrmrd.acquisition import AcquisitionHeader
from ismrmrd.waveform import WaveformHeader

from chpnet_stream.mrd.wire.arrays import samples_part
from chpnet_stream.mrd.wire.byte_reader import ByteReader
from chpnet_stream.mrd.wire.byte_stream import Part

ACQUISITION_HEADER_BYTES = ctypes.sizeof(AcquisitionHeader)
WAVEFORM_HEADER_BYTES = ctypes.sizeof(WaveformHeader)


def read_acquisition(reader: ByteReader) -> Any:
    """An `ismrmrd.Acquisition`; its arrays are the received memory."""
    head = read_acquisition_header(reader)
    trajectory = read_trajectory(reader, head)
    return ismrmrd.Acquisition(head, read_samples(reader, head), trajectory)


def read_acquisition_header(reader: ByteReader) -> Any:
    """340 bytes as an `ismrmrd.AcquisitionHeader`."""
    return AcquisitionHeader.from_buffer(reader.bytes(ACQUISITION_HEADER_BYTES, "header"))


def read_trajectory(reader: ByteReader, head: Any) -> np.ndarray:
    """Float32 `samples dimensions`."""
    return reader.array("<f4", (head.number_of_samples, head.trajectory_dimensions), "trajectory")


def read_samples(reader: ByteReader, head: Any) -> np.ndarray:
    """Complex64 `coils samples`."""
    return reader.array("<c8", (head.active_channels, head.number_of_samples))


def acquisition_parts(acquisition: Any) -> list[Part]:
    """The bytes of `read_acquisition`."""
    return [
        bytes(acquisition.getHead()),
        samples_part(acquisition.traj.astype("<f4", copy=False)),
        samples_part(acquisition.data.astype("<c8", copy=False)),
    ]


def read_waveform(reader: ByteReader) -> Any:
    """An `ismrmrd.Waveform`."""
    head = read_waveform_header(reader)
    return ismrmrd.Waveform(head, read_waveform_samples(reader, head))


def read_waveform_header(reader: ByteReader) -> Any:
    """40 bytes as an `ismrmrd.WaveformHeader`."""
    return WaveformHeader.from_buffer(reader.bytes(WAVEFORM_HEADER_BYTES, "header"))


def read_waveform_samples(reader: ByteReader, head: Any) -> np.ndarray:
    """Uint32 `channels samples`."""
    return reader.array("<u4", (head.channels, head.number_of_samples))


def waveform_parts(waveform: Any) -> list[Part]:
    """The bytes of `read_waveform`."""
    return [bytes(waveform.getHead()), samples_part(waveform.data.astype("<u4", copy=False))]
