import ismrmrd
import numpy as np
import pytest

from chpnet_stream.mrd.header import ScanHeader
from chpnet_stream.mrd.images import (
    ImageCounters,
    ImageOrientation,
    crop_to_recon,
    image_from_slice,
)
from tests.scan.building import header_xml


@pytest.fixture
def header():
    return ScanHeader.from_xml(header_xml(nx=8, ny=6))


@pytest.fixture
def head():
    made = ismrmrd.AcquisitionHeader()
    made.version, made.measurement_uid, made.acquisition_time_stamp = 1, 42, 1234
    made.flags = ismrmrd.Acquisition().flags
    made.position = (1.0, 2.0, 3.0)
    made.read_dir, made.phase_dir, made.slice_dir = (1.0, 0, 0), (0, 0, -1.0), (0, 1.0, 0)
    made.patient_table_position = (0.0, 0.0, -100.0)
    made.physiology_time_stamp = (7, 8, 9)
    made.user_int, made.user_float = tuple(range(8)), tuple(0.5 * n for n in range(8))
    for n, name in enumerate(("average", "slice", "contrast", "phase", "repetition", "set")):
        setattr(made.idx, name, 1 if name == "contrast" else n + 2)
    made.set_flag(7)
    made.set_flag(8)
    made.set_flag(21)
    return made


def pixels(ny=6, nx=8):
    return np.arange(ny * nx, dtype=np.float32).reshape(ny, nx)


def test_every_field_of_the_header(header, head):
    made = image_from_slice(pixels(), head, header, ImageCounters(index=3, series=2))
    np.testing.assert_array_equal(made.data[0, 0], pixels())
    assert made.matrix_size == (8, 6, 1)
    assert tuple(made.field_of_view) == (8.0, 6.0, 5.0)
    for name in ("version", "measurement_uid", "acquisition_time_stamp"):
        assert getattr(made, name) == getattr(head, name)
    for name in (
        "position",
        "read_dir",
        "phase_dir",
        "slice_dir",
        "patient_table_position",
        "physiology_time_stamp",
        "user_int",
        "user_float",
    ):
        assert tuple(getattr(made, name)) == tuple(getattr(head, name))
    for name in ("average", "slice", "contrast", "phase", "repetition", "set"):
        assert getattr(made, name) == getattr(head.idx, name)
    assert (made.image_index, made.image_series_index) == (3, 2)
    assert (made.image_type, made.data_type) == (1, ismrmrd.DATATYPE_FLOAT)
    assert [n for n in range(1, 65) if made.is_flag_set(n)] == [7, 8]


@pytest.mark.parametrize(
    ("index", "stored"), [(1, 1), (65535, 65535), (65536, 1), (65537, 2), (200_000, 3395)]
)
def test_image_index_survives_long_scans(header, head, index, stored):
    made = image_from_slice(pixels(), head, header, ImageCounters(index=index))
    assert made.image_index == stored
    assert made.meta["GADGETRON_ImageNumber"] == str(index)


def test_last_in_measurement(header, head):
    made = image_from_slice(
        pixels(), head, header, ImageCounters(last_in_measurement=True), edges=0
    )
    assert [n for n in range(1, 65) if made.is_flag_set(n)] == [25]


def test_meta_standard_and_gadgetron_spellings(header, head):
    made = image_from_slice(
        pixels(),
        head,
        header,
        window=(500.4, 1000.6),
        description="chpnet",
        history=("whitened", "chpnet"),
        meta={"chpnet_model": "rt", "chpnet_fallback": None, "chpnet_note": "a\x00b"},
    )
    meta = ismrmrd.Meta.deserialize(made.attribute_string)
    assert meta["DataRole"] == meta["GADGETRON_DataRole"] == "Image"
    assert meta["ImageProcessingHistory"] == ["whitened", "chpnet"]
    assert meta["Keep_image_geometry"] == "1"
    assert meta["SeriesDescription"] == "test_chpnet"
    assert (meta["WindowCenter"], meta["WindowWidth"]) == ("500", "1001")
    assert meta["GADGETRON_WindowWidth"] == "1001"
    assert [float(v) for v in meta["ImageRowDir"]] == list(head.read_dir)
    assert [float(v) for v in meta["ImageColumnDir"]] == list(head.phase_dir)
    assert meta["EchoTime"] == "5"  # of contrast 1
    assert meta["chpnet_model"] == "rt"
    assert meta["chpnet_note"] == "a b"
    assert "chpnet_fallback" not in meta


def test_a_window_that_whole_numbers_cannot_tell_is_left_out(header, head):
    made = image_from_slice(pixels(), head, header, window=(0.01, 0.02))
    assert "WindowWidth" not in made.meta


def test_flips_are_told_in_the_meta_and_leave_the_vectors(header, head):
    flip = ImageOrientation(flip_rows=True, flip_columns=True)
    made = image_from_slice(pixels(), head, header, orientation=flip)
    np.testing.assert_array_equal(made.data[0, 0], pixels()[::-1, ::-1])
    assert tuple(made.read_dir) == tuple(head.read_dir)
    assert [float(v) for v in made.meta["ImageRowDir"]] == [-v for v in head.read_dir]
    assert [float(v) for v in made.meta["ImageColumnDir"]] == [-v for v in head.phase_dir]


def test_partitions_count_and_move_along_the_slab(head):
    header = ScanHeader.from_xml(header_xml(nx=8, ny=6, nz=4))
    positions, slices = [], []
    for partition in range(4):
        made = image_from_slice(
            pixels(), head, header, ImageCounters(partition=partition), slice_counters={"slice": 1}
        )
        positions.append(made.position[1])
        slices.append(made.slice)
    assert slices == [4, 5, 6, 7]
    assert positions == [2 - 10, 2 - 5, 2, 2 + 5]  # slice_dir is +y, 20 mm slab, centre at 2
    assert made.field_of_view[2] == 5.0


def test_a_field_of_view_that_was_not_encoded_is_not_claimed(head):
    """48 mm were encoded along y and 40 mm along z, 60 mm each are asked for: nothing is padded."""
    xml = header_xml(nx=8, ny=6, nz=4)
    xml = xml.replace("<y>6</y><z>20</z>", "<y>48</y><z>40</z>", 1)
    xml = xml.replace("<y>6</y><z>20</z>", "<y>60</y><z>60</z>", 1)
    header = ScanHeader.from_xml(xml)
    made = image_from_slice(pixels(), head, header, ImageCounters(partition=0))
    assert tuple(made.field_of_view) == (8.0, 48.0, 10.0)
    assert made.position[1] == 2 - 2 * 10  # two partitions of 10 mm before the centre


def test_complex_images(header, head):
    made = image_from_slice(1j * pixels(), head, header, image_type="complex")
    assert (made.image_type, made.data_type) == (5, ismrmrd.DATATYPE_CXFLOAT)


def test_wrong_arguments(header, head):
    with pytest.raises(ValueError, match="two axes"):
        image_from_slice(np.zeros((1, 6, 8)), head, header)
    with pytest.raises(ValueError, match="image type 'fancy'"):
        image_from_slice(pixels(), head, header, image_type="fancy")


@pytest.mark.parametrize(("n", "wanted"), [(8, 4), (9, 4), (8, 5), (9, 5), (8, 8)])
def test_crop_keeps_the_centre_pixel_in_the_centre(n, wanted):
    xml = header_xml(nx=16, ny=n).replace(f"<y>{n}</y>", f"<y>{wanted}</y>")
    start = xml.index("<encodedSpace>"), xml.index("</encodedSpace>")
    encoded = xml[slice(*start)].replace(f"<y>{wanted}</y>", f"<y>{n}</y>")
    (encoding,) = ScanHeader.from_xml(xml[: start[0]] + encoded + xml[start[1] :]).encodings
    image = np.zeros((n, 16))
    image[n // 2, 8] = 1
    out = crop_to_recon(image, encoding)
    assert out.shape == (wanted, 16 if encoding.cropped(0) == 16 else encoding.cropped(0))
    assert np.argwhere(out).tolist() == [[wanted // 2, out.shape[1] // 2]]


def series_name(meta, own="t1"):
    """As the standard has it: a name that replaces the scanner's, and what is appended to that."""
    name, more = meta.get("SeriesDescription", own), meta.get("SeriesDescriptionAdditional")
    return name if more is None else f"{name}_{more}"


def test_a_series_is_named_once(header, head):
    named = image_from_slice(pixels(), head, header, description="chpnet").meta
    assert series_name(named) == "test_chpnet"
    xml = header_xml(nx=8, ny=6).replace("<protocolName>test</protocolName>", "")
    other = image_from_slice(pixels(), head, ScanHeader.from_xml(xml), description="chpnet").meta
    assert series_name(other) == "t1_chpnet"  # the scanner knows better than "unknown"
    for meta in (named, other):
        assert meta["SequenceDescriptionAdditional"] == "chpnet"


@pytest.mark.parametrize(
    ("times", "told"), [((), None), ((100,), "100"), ((100, 600), None), ((900, 0), "900")]
)
def test_an_inversion_time_is_told_where_there_is_one(times, told, head):
    elements = "".join(f"<TI>{time}</TI>" for time in times)
    xml = header_xml(nx=8, ny=6).replace(
        "</sequenceParameters>", f"{elements}</sequenceParameters>"
    )
    made = image_from_slice(pixels(), head, ScanHeader.from_xml(xml))
    assert made.meta.get("InversionTime") == told


@pytest.mark.parametrize(
    ("times", "contrast", "told"),
    [((3, 6), 1, "6"), ((3, 6), 2, None), ((3,), 2, "3"), ((), 0, None)],
)
def test_an_echo_time_is_that_of_the_contrast(times, contrast, told, head):
    head.idx.contrast = contrast
    elements = "".join(f"<TE>{time}</TE>" for time in times)
    xml = header_xml(nx=8, ny=6).replace("<TE>2.5</TE><TE>5</TE>", elements)
    made = image_from_slice(pixels(), head, ScanHeader.from_xml(xml))
    assert made.meta.get("EchoTime") == told
