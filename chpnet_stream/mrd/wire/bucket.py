"""Buckets (id 1050): acquisitions that Gadgetron has gathered up to a trigger."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ismrmrd

from chpnet_stream.errors import ProtocolError
from chpnet_stream.mrd.wire.arrays import samples_part
from chpnet_stream.mrd.wire.byte_reader import ByteReader
from chpnet_stream.mrd.wire.byte_stream import Part
from chpnet_stream.mrd.wire.samples import (
    ACQUISITION_HEADER_BYTES,
    WAVEFORM_HEADER_BYTES,
    read_acquisition_header,
    read_samples,
    read_trajectory,
    read_waveform_header,
    read_waveform_samples,
)

SIZES = struct.Struct("<13Q")
STATISTICS = (
    "kspace_encode_step_1",
    "kspace_encode_step_2",
    "slice",
    "phase",
    "contrast",
    "repetition",
    "set",
    "segment",
    "average",
)
NO_STATISTICS = struct.pack("<Q", 0)


@dataclass
class Bucket:
    """Acquisitions up to a trigger.

    Attributes:
        data: Image acquisitions (with those that are calibration too).
        reference: Calibration acquisitions (flags 20 and 21).
        waveforms: Waveforms since the trigger before.
        data_statistics: The counters that occur in `data`, for every encoding space, as bytes.
        reference_statistics: The same of `reference`.
    """

    data: list[Any]
    reference: list[Any] = field(default_factory=list)
    waveforms: list[Any] = field(default_factory=list)
    data_statistics: bytes = NO_STATISTICS
    reference_statistics: bytes = NO_STATISTICS


def read_bucket(reader: ByteReader) -> Bucket:
    """The sizes of all parts, then the parts.

    Raises:
        ProtocolError: The sizes don't fit what the headers say.
    """
    sizes = reader.unpack(SIZES)
    data_sizes, reference_sizes, waveform_sizes = sizes[:4], sizes[4:8], sizes[10:]
    data = _read_acquisitions(reader, data_sizes)
    data_statistics = bytes(reader.bytes(sizes[8], "statistics"))
    reference = _read_acquisitions(reader, reference_sizes)
    reference_statistics = bytes(reader.bytes(sizes[9], "statistics"))
    waveforms = _read_waveforms(reader, waveform_sizes)
    return Bucket(data, reference, waveforms, data_statistics, reference_statistics)


def bucket_parts(bucket: Bucket) -> list[Part]:
    """The bytes of `read_bucket`."""
    data, reference = (_acquisition_parts(a) for a in (bucket.data, bucket.reference))
    heads = [bytes(w.getHead()) for w in bucket.waveforms]
    samples = [samples_part(w.data.astype("<u4", copy=False)) for w in bucket.waveforms]
    sizes = SIZES.pack(
        *_sizes(bucket.data, data),
        *_sizes(bucket.reference, reference),
        len(bucket.data_statistics),
        len(bucket.reference_statistics),
        len(heads),
        sum(map(len, heads)),
        sum(map(len, samples)),
    )
    return [
        sizes,
        *(part for group in data for part in group),
        bucket.data_statistics,
        *(part for group in reference for part in group),
        bucket.reference_statistics,
        *heads,
        *samples,
    ]


def statistics(acquisitions: Sequence[Any]) -> bytes:
    """The counters that occur, for every encoding space, as Gadgetron serialises them."""
    spaces = 1 + max((int(a.encoding_space_ref) for a in acquisitions), default=-1)
    parts = [struct.pack("<Q", spaces)]
    for space in range(spaces):
        members = [a.idx for a in acquisitions if a.encoding_space_ref == space]
        for name in STATISTICS:
            values = sorted({int(getattr(idx, name)) for idx in members})
            parts.append(struct.pack(f"<Q{len(values)}H", len(values), *values))
    return b"".join(parts)


def _read_acquisitions(reader: ByteReader, sizes: tuple[int, ...]) -> list[Any]:
    count, head_bytes, data_bytes, trajectory_bytes = sizes
    reader.check(head_bytes + data_bytes + trajectory_bytes, "acquisitions")
    _expect(head_bytes, count * ACQUISITION_HEADER_BYTES, "acquisition headers")
    heads = [read_acquisition_header(reader) for _ in range(count)]
    points = [int(h.number_of_samples) for h in heads]
    floats = sum(n * int(h.trajectory_dimensions) for n, h in zip(points, heads, strict=True))
    _expect(trajectory_bytes, 4 * floats, "trajectories")
    values = sum(n * int(h.active_channels) for n, h in zip(points, heads, strict=True))
    _expect(data_bytes, 8 * values, "samples")
    trajectories = [read_trajectory(reader, head) for head in heads]
    return [
        ismrmrd.Acquisition(head, read_samples(reader, head), trajectory)
        for head, trajectory in zip(heads, trajectories, strict=True)
    ]


def _read_waveforms(reader: ByteReader, sizes: tuple[int, ...]) -> list[Any]:
    count, head_bytes, data_bytes = sizes
    reader.check(head_bytes + data_bytes, "waveforms")
    _expect(head_bytes, count * WAVEFORM_HEADER_BYTES, "waveform headers")
    heads = [read_waveform_header(reader) for _ in range(count)]
    values = sum(int(h.channels) * int(h.number_of_samples) for h in heads)
    _expect(data_bytes, 4 * values, "waveforms")
    return [ismrmrd.Waveform(head, read_waveform_samples(reader, head)) for head in heads]


def _expect(promised: int, needed: int, what: str) -> None:
    if promised != needed:
        raise ProtocolError(
            f"a bucket promises {promised} bytes of {what}, its headers make {needed}; the stream "
            "is damaged"
        )


def _acquisition_parts(acquisitions: list[Any]) -> tuple[list[Part], list[Part], list[Part]]:
    heads: list[Part] = [bytes(a.getHead()) for a in acquisitions]
    trajectories = [samples_part(a.traj.astype("<f4", copy=False)) for a in acquisitions]
    samples = [samples_part(a.data.astype("<c8", copy=False)) for a in acquisitions]
    return heads, trajectories, samples


def _sizes(
    acquisitions: list[Any], parts: tuple[list[Part], list[Part], list[Part]]
) -> tuple[int, int, int, int]:
    heads, trajectories, samples = (sum(map(len, group)) for group in parts)
    return len(acquisitions), heads, samples, trajectories
