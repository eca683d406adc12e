"""Items between v1 and v2: every field, there and back."""

from typing import Any

import ismrmrd
import numpy as np
import pytest
from ismrmrd.image import ImageHeader

from chpnet_stream.errors import InconsistentScanError
from chpnet_stream.mrd.v2.items import (
    DATA_TYPES,
    IMAGE_KINDS,
    Mrd2Item,
    acquisition_to_v1,
    acquisition_to_v2,
    image_to_v1,
    image_to_v2,
    item_to_v1,
    item_to_v2,
    waveform_to_v1,
    waveform_to_v2,
)
from chpnet_stream.mrd.v2.meta import meta_to_v1, meta_to_v2
from chpnet_stream.mrd.wire.bucket import Bucket

mrd = pytest.importorskip("mrd", reason="no mrd-python (pip install 'chpnet-stream[mrd2]')")


def different(head: Any) -> None:
    """Another value in every field of a ctypes header."""
    number = 1
    for name, kind in head._fields_:
        if name in ("version", "data_type", "matrix_size", "channels", "attribute_string_len"):
            continue
        value = getattr(head, name)
        if hasattr(value, "_fields_"):
            different(value)
        elif hasattr(value, "__len__"):
            for i in range(len(value)):
                value[i], number = number, number + 1
        else:
            setattr(head, name, kind(number).value)
            number += 1


def acquisition() -> Any:
    samples = np.arange(30, dtype=np.complex64).reshape(3, 10)
    made = ismrmrd.Acquisition.from_array(samples, np.ones((10, 2), np.float32))
    head = made.getHead()
    different(head)
    head.version, head.number_of_samples, head.active_channels = 1, 10, 3
    head.available_channels, head.trajectory_dimensions = 3, 2
    head.channel_mask[:] = [0b1010_0001, *[0] * 15]
    trajectory = np.arange(20, dtype=np.float32).reshape(10, 2)
    return ismrmrd.Acquisition(head, samples, trajectory)


def test_an_acquisition_there_and_back() -> None:
    before = acquisition()
    between = acquisition_to_v2(before)
    assert between.head.channel_order == [0, 5, 7]
    assert between.trajectory.shape == (2, 10)
    after = acquisition_to_v1(between)
    assert bytes(after.getHead()) == bytes(before.getHead())
    np.testing.assert_array_equal(after.data, before.data)
    np.testing.assert_array_equal(after.traj, before.traj)


def test_a_bare_acquisition_of_v2() -> None:
    bare = mrd.Acquisition(data=np.ones((2, 8), np.complex64))
    made = acquisition_to_v1(bare)
    assert (made.center_sample, made.idx.slice, made.scan_counter) == (4, 0, 0)
    assert made.traj.shape == (8, 0)
    assert [made.isChannelActive(i) for i in range(3)] == [True, True, False]


def test_a_mask_of_other_channels_than_there_are() -> None:
    before = acquisition()
    before.channel_mask[0] = 0
    assert acquisition_to_v2(before).head.channel_order == [0, 1, 2]


@pytest.mark.parametrize("name", ["slice", "kspace_encode_step_1"])
def test_counters_that_v1_can_not_hold_are_refused(name: str) -> None:
    item = acquisition_to_v2(acquisition())
    setattr(item.head.idx, name, 65536)
    with pytest.raises(InconsistentScanError, match=f"{name} = 65536"):
        acquisition_to_v1(item)


def test_lists_that_v1_can_not_hold_are_refused() -> None:
    item = acquisition_to_v2(acquisition())
    item.head.physiology_time_stamp = [1, 2, 3, 4]
    with pytest.raises(InconsistentScanError, match="4 values of physiology_time_stamp"):
        acquisition_to_v1(item)
    item = acquisition_to_v2(acquisition())
    item.trajectory = np.zeros((2, 9), np.float32)
    with pytest.raises(InconsistentScanError, match="trajectory of 9 samples"):
        acquisition_to_v1(item)


def test_a_waveform_there_and_back() -> None:
    before = ismrmrd.Waveform.from_array(np.arange(8, dtype=np.uint32).reshape(2, 4))
    head = before.getHead()
    different(head)
    head.version, head.channels, head.number_of_samples = 1, 2, 4
    before = ismrmrd.Waveform(head, before.data)
    after = waveform_to_v1(waveform_to_v2(before))
    assert bytes(after.getHead()) == bytes(before.getHead())
    np.testing.assert_array_equal(after.data, before.data)


def picture(dtype: Any) -> Any:
    pixels = np.arange(24).reshape(2, 1, 3, 4).astype(dtype)
    head = ImageHeader()
    different(head)
    head.data_type, head.channels, head.matrix_size = DATA_TYPES[pixels.dtype], 2, (4, 3, 1)
    head.version, head.image_type, head.flags = 1, 5, 1 << 24 | 1 << 7
    made = ismrmrd.Image(head=head, meta=ismrmrd.Meta({"A": ["1", "x"], "B": "0.50"}))
    made.data[...] = pixels
    return made


@pytest.mark.parametrize("dtype", IMAGE_KINDS)
def test_an_image_there_and_back(dtype: str) -> None:
    before = picture(dtype)
    item = item_to_v2(before)
    assert type(item).__name__ == f"StreamItem.{IMAGE_KINDS[dtype]}"
    head = item.value.head
    assert list(head.col_dir) == list(before.read_dir)
    assert list(head.line_dir) == list(before.phase_dir)
    after = item_to_v1(item)
    mine, theirs = after.getHead(), before.getHead()
    mine.attribute_string_len = theirs.attribute_string_len
    assert bytes(mine) == bytes(theirs)
    assert after.data.dtype == before.data.dtype
    np.testing.assert_array_equal(after.data, before.data)
    assert dict(after.meta) == dict(before.meta)


def test_numbers_of_images_need_not_wrap_in_v2() -> None:
    image = picture("float32")
    image.image_index = 2
    image.meta = ismrmrd.Meta({"GADGETRON_ImageNumber": str(65535 + 2)})
    assert image_to_v2(image).head.image_index == 65537
    assert image_to_v1(image_to_v2(image)).image_index == 2
    image.meta = ismrmrd.Meta({"GADGETRON_ImageNumber": "65538"})  # of another image
    assert image_to_v2(image).head.image_index == 2


def test_a_bare_image_of_v2() -> None:
    head = mrd.ImageHeader(image_type=mrd.ImageType.MAGNITUDE)
    made = image_to_v1(mrd.Image(head=head, data=np.ones((1, 1, 2, 3), np.float32), meta={}))
    assert (made.image_index, made.slice, made.image_series_index) == (0, 0, 0)
    assert tuple(made.matrix_size) in ((1, 2, 3), (3, 2, 1))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("12", "Int64"),
        ("-3", "Int64"),
        ("0.5", "Float64"),
        ("1e-05", "Float64"),
        ("007", "String"),
        ("1.50", "String"),
        (" 1", "String"),
        ("1_0", "String"),
        ("nan", "String"),
        ("99999999999999999999", "String"),
        ("", "String"),
    ],
)
def test_meta_become_numbers_only_where_nothing_is_lost(text: str, kind: str) -> None:
    (value,) = meta_to_v2({"a": text})["a"]
    assert type(value).__name__ == f"ImageMetaValue.{kind}"
    assert meta_to_v1({"a": [value]}) == {"a": text}


def test_buckets_and_what_v1_has_nothing_for() -> None:
    line = acquisition_to_v2(acquisition())
    bucket = mrd.AcquisitionBucket(data=[line], ref=[line, line])
    made = item_to_v1(mrd.StreamItem.AcquisitionBucket(bucket))
    assert isinstance(made, Bucket)
    assert (len(made.data), len(made.reference)) == (1, 2)
    array = mrd.StreamItem.ArrayComplexFloat(np.ones(3, np.complex64))
    handed_on = item_to_v1(array)
    assert isinstance(handed_on, Mrd2Item)
    assert item_to_v2(handed_on) is array
    with pytest.raises(InconsistentScanError, match="recon data"):
        item_to_v1(mrd.StreamItem.ReconData(mrd.ReconData()))
