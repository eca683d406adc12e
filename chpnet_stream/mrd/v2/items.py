"""Acquisitions, waveforms, images and buckets between MRD v1 and v2 (docs/mrd2.md: every field)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ismrmrd
import numpy as np
from ismrmrd.acquisition import AcquisitionHeader
from ismrmrd.image import ImageHeader
from ismrmrd.waveform import WaveformHeader

from chpnet_stream.errors import InconsistentScanError
from chpnet_stream.mrd.v2.meta import meta_to_v1, meta_to_v2
from chpnet_stream.mrd.wire.bucket import Bucket
from chpnet_stream.mrd.wire.image import PIXELS

VERSION = 1
"""Of items of MRD v1."""

UINT16_TOP = 65535
WRAP = 65535
"""image_index of v1 runs from 1 to this number, and then from 1 again."""

COUNTERS = (
    "kspace_encode_step_1",
    "kspace_encode_step_2",
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
    "segment",
)
VECTORS = ("position", "read_dir", "phase_dir", "slice_dir", "patient_table_position")
IMAGE_VECTORS = {
    "field_of_view": "field_of_view",
    "position": "position",
    "read_dir": "col_dir",
    "phase_dir": "line_dir",
    "slice_dir": "slice_dir",
    "patient_table_position": "patient_table_position",
}
"""Names in v1 and in v2."""

IMAGE_COUNTERS = ("average", "slice", "contrast", "phase", "repetition", "set")
IMAGE_KINDS = {
    "uint16": "ImageUint16",
    "int16": "ImageInt16",
    "uint32": "ImageUint32",
    "int32": "ImageInt32",
    "float32": "ImageFloat",
    "float64": "ImageDouble",
    "complex64": "ImageComplexFloat",
    "complex128": "ImageComplexDouble",
}


DATA_TYPES = {np.dtype(kind): number for number, kind in PIXELS.items()}
"""data_type of v1 by the type of the pixels."""


class Mrd2Item:
    """An item of v2 that v1 has nothing for: it is handed on as it is.

    Args:
        item: The `mrd.StreamItem`.
    """

    def __init__(self, item: Any) -> None:
        self.item = item


def item_to_v1(item: Any) -> Any:
    """An `mrd.StreamItem` as v1 has it.

    Raises:
        InconsistentScanError: A number doesn't fit into v1, or the item can't be used here.
    """
    value, kind = item.value, type(item).__name__.rpartition(".")[2]
    if kind == "Acquisition":
        return acquisition_to_v1(value)
    if kind == "WaveformUint32":
        return waveform_to_v1(value)
    if kind in IMAGE_KINDS.values():
        return image_to_v1(value)
    if kind == "AcquisitionBucket":
        data, reference = ([acquisition_to_v1(a) for a in part] for part in (value.data, value.ref))
        return Bucket(data, reference, [waveform_to_v1(w) for w in value.waveforms], b"", b"")
    if kind == "ReconData":
        raise InconsistentScanError(
            "found recon data in the MRD v2 stream, expected acquisitions, buckets, images or "
            "waveforms; put chpnet-stream before what gathers them"
        )
    return Mrd2Item(item)


def item_to_v2(item: Any) -> Any:
    """An image, waveform, acquisition or `Mrd2Item` as `mrd.StreamItem`; None for others."""
    import mrd

    if isinstance(item, Mrd2Item):
        return item.item
    if isinstance(item, ismrmrd.Image):
        made = image_to_v2(item)
        return getattr(mrd.StreamItem, IMAGE_KINDS[made.data.dtype.name])(made)
    if isinstance(item, ismrmrd.Waveform):
        return mrd.StreamItem.WaveformUint32(waveform_to_v2(item))
    if isinstance(item, ismrmrd.Acquisition):
        return mrd.StreamItem.Acquisition(acquisition_to_v2(item))
    return None


def acquisition_to_v1(item: Any) -> Any:
    """An `mrd.Acquisition` as `ismrmrd.Acquisition`."""
    theirs, head = item.head, AcquisitionHeader()
    coils, samples = item.data.shape
    head.version = VERSION
    head.flags = int(theirs.flags)
    head.measurement_uid = theirs.measurement_uid
    head.scan_counter = theirs.scan_counter or 0
    head.acquisition_time_stamp = theirs.acquisition_time_stamp or 0
    _fill(head.physiology_time_stamp, theirs.physiology_time_stamp, "physiology_time_stamp")
    head.number_of_samples = _small(samples, "samples")
    head.active_channels = head.available_channels = _small(coils, "coils")
    for channel in theirs.channel_order or range(coils):
        if channel < 64 * len(head.channel_mask):
            head.channel_mask[channel // 64] |= 1 << (channel % 64)
    for name in ("discard_pre", "discard_post", "encoding_space_ref"):
        setattr(head, name, _small(getattr(theirs, name) or 0, name))
    centre = theirs.center_sample
    head.center_sample = samples // 2 if centre is None else _small(centre, "center_sample")
    head.sample_time_us = theirs.sample_time_us or 0.0
    for name in VECTORS:
        getattr(head, name)[:] = [float(v) for v in getattr(theirs, name)]
    for name in COUNTERS:
        setattr(head.idx, name, _small(getattr(theirs.idx, name) or 0, name))
    _fill(head.idx.user, theirs.idx.user, "idx.user")
    _fill(head.user_int, theirs.user_int, "user_int")
    _fill(head.user_float, theirs.user_float, "user_float")
    data = np.ascontiguousarray(item.data, dtype=np.complex64)
    trajectory = np.zeros((samples, 0), np.float32)
    if item.trajectory.size:
        trajectory = np.ascontiguousarray(item.trajectory.T, dtype=np.float32)
        if len(trajectory) != samples:
            raise InconsistentScanError(
                f"acquisition {head.scan_counter} has a trajectory of {len(trajectory)} samples, "
                f"expected {samples}; fix the sender"
            )
        head.trajectory_dimensions = trajectory.shape[1]
    return ismrmrd.Acquisition(head, data, trajectory)


def acquisition_to_v2(item: Any) -> Any:
    """An `ismrmrd.Acquisition` as `mrd.Acquisition`."""
    import mrd

    head = item.getHead()
    made = mrd.AcquisitionHeader(
        flags=mrd.AcquisitionFlags(int(head.flags)),
        idx=mrd.EncodingCounters(
            **{name: int(getattr(head.idx, name)) for name in COUNTERS},
            user=[int(v) for v in head.idx.user],
        ),
        measurement_uid=int(head.measurement_uid),
        scan_counter=int(head.scan_counter),
        acquisition_time_stamp=int(head.acquisition_time_stamp),
        physiology_time_stamp=[int(v) for v in head.physiology_time_stamp],
        channel_order=_channels(head),
        discard_pre=int(head.discard_pre),
        discard_post=int(head.discard_post),
        center_sample=int(head.center_sample),
        encoding_space_ref=int(head.encoding_space_ref),
        sample_time_us=float(head.sample_time_us),
        **{name: np.array(getattr(head, name), np.float32) for name in VECTORS},
        user_int=[int(v) for v in head.user_int],
        user_float=[float(v) for v in head.user_float],
    )
    trajectory = np.ascontiguousarray(item.traj.T, dtype=np.float32)
    if not trajectory.size:
        trajectory = np.zeros((0, 0), np.float32)
    return mrd.Acquisition(head=made, data=np.ascontiguousarray(item.data), trajectory=trajectory)


def waveform_to_v1(item: Any) -> Any:
    """An `mrd.WaveformUint32` as `ismrmrd.Waveform`."""
    head = WaveformHeader()
    channels, samples = item.data.shape
    head.version = VERSION
    head.channels = _small(channels, "channels of a waveform")
    head.number_of_samples = _small(samples, "samples of a waveform")
    for name in ("flags", "measurement_uid", "scan_counter", "time_stamp", "sample_time_us"):
        setattr(head, name, getattr(item, name))
    head.waveform_id = _small(item.waveform_id, "waveform_id")
    return ismrmrd.Waveform(head, np.ascontiguousarray(item.data, dtype=np.uint32))


def waveform_to_v2(item: Any) -> Any:
    """An `ismrmrd.Waveform` as `mrd.WaveformUint32`."""
    import mrd

    head = item.getHead()
    return mrd.WaveformUint32(
        flags=int(head.flags),
        measurement_uid=int(head.measurement_uid),
        scan_counter=int(head.scan_counter),
        time_stamp=int(head.time_stamp),
        sample_time_us=float(head.sample_time_us),
        waveform_id=int(head.waveform_id),
        data=np.ascontiguousarray(item.data, dtype=np.uint32),
    )


def image_to_v1(item: Any) -> Any:
    """An `mrd.Image` as `ismrmrd.Image`."""
    theirs, head = item.head, ImageHeader()
    channels, z, y, x = item.data.shape
    head.data_type = DATA_TYPES[item.data.dtype]
    head.channels = _small(channels, "channels")
    head.matrix_size = tuple(_small(n, "matrix_size") for n in (x, y, z))
    made = ismrmrd.Image(head=head)
    made.data[...] = item.data
    made.version = VERSION
    made.flags = int(theirs.flags)
    made.measurement_uid = theirs.measurement_uid
    for ours, name in IMAGE_VECTORS.items():
        setattr(made, ours, tuple(float(v) for v in getattr(theirs, name)))
    for name in IMAGE_COUNTERS:
        setattr(made, name, _small(getattr(theirs, name) or 0, name))
    made.acquisition_time_stamp = theirs.acquisition_time_stamp or 0
    made.image_type = theirs.image_type.value
    index = theirs.image_index or 0
    made.image_index = (index - 1) % WRAP + 1 if index else 0
    made.image_series_index = _small(theirs.image_series_index or 0, "image_series_index")
    for name in ("physiology_time_stamp", "user_int", "user_float"):
        room = list(getattr(made, name))
        _fill(room, getattr(theirs, name), name)
        setattr(made, name, tuple(room))
    made.meta = ismrmrd.Meta(meta_to_v1(item.meta))
    return made


def image_to_v2(image: Any) -> Any:
    """An `ismrmrd.Image` as `mrd.Image`."""
    import mrd

    head = image.getHead()
    meta = dict(image.meta)
    made = mrd.ImageHeader(
        image_type=mrd.ImageType(int(head.image_type)),
        flags=mrd.ImageFlags(int(head.flags)),
        measurement_uid=int(head.measurement_uid),
        **{v2: np.array(getattr(head, v1), np.float32) for v1, v2 in IMAGE_VECTORS.items()},
        **{name: int(getattr(head, name)) for name in IMAGE_COUNTERS},
        acquisition_time_stamp=int(head.acquisition_time_stamp),
        physiology_time_stamp=[int(v) for v in head.physiology_time_stamp],
        image_index=_full_index(int(head.image_index), meta),
        image_series_index=int(head.image_series_index),
        user_int=[int(v) for v in head.user_int],
        user_float=[float(v) for v in head.user_float],
    )
    data = np.asarray(image.data)
    data = data.astype(np.int32) if data.dtype == np.int64 else data  # see mrd.wire.image.PIXELS
    return mrd.Image(head=made, data=np.ascontiguousarray(data), meta=meta_to_v2(meta))


def _full_index(index: int, meta: dict[str, Any]) -> int:
    """The number of an image that v1 had to wrap, from its meta."""
    text = str(meta.get("GADGETRON_ImageNumber", ""))
    full = int(text) if text.isdecimal() else 0
    return full if full > index and (full - 1) % WRAP + 1 == index else index


def _channels(head: Any) -> list[int]:
    """Numbers of the channels that a mask has; those from 0 on where it has others than data."""
    mask = [int(word) for word in head.channel_mask]
    found = [64 * i + bit for i, word in enumerate(mask) for bit in range(64) if word >> bit & 1]
    count = int(head.active_channels)
    return found if len(found) == count else list(range(count))


def _small(value: int, name: str) -> int:
    """A number that v1 has 16 bits for.

    Raises:
        InconsistentScanError: It needs more.
    """
    if not 0 <= value <= UINT16_TOP:
        raise InconsistentScanError(
            f"found {name} = {value} in the MRD v2 stream, expected at most {UINT16_TOP}, which is "
            "what images and lines are numbered with here"
        )
    return int(value)


def _fill(room: Any, values: Sequence[Any], name: str) -> None:
    """Put values into an array of fixed length.

    Raises:
        InconsistentScanError: There are more.
    """
    if len(values) > len(room):
        raise InconsistentScanError(
            f"found {len(values)} values of {name} in the MRD v2 stream, expected at most "
            f"{len(room)}"
        )
    for i, value in enumerate(values):
        room[i] = value
