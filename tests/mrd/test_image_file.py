import h5py
import ismrmrd
import numpy as np
import pytest

from chpnet_stream.errors import ConfigurationError, OutputError, OutputExistsError
from chpnet_stream.mrd.image_file import UINT16_TOP, ImageFile
from tests.helpers import no_file_larger_than


def image(pixels, series=1, **meta):
    made = ismrmrd.Image.from_array(np.asarray(pixels), transpose=False)
    made.image_series_index = series
    made.field_of_view = (10.0, 20.0, 5.0)
    made.meta = ismrmrd.Meta(meta)
    return made


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.h5"


def pixels(n, shape=(6, 4), kind=np.float32):
    return (np.random.default_rng(n).random(shape) * (n + 1)).astype(kind)


@pytest.mark.parametrize("kind", [np.float32, np.complex64])
def test_images_come_back_through_the_ismrmrd_package(path, kind):
    with ImageFile(path, xml="<ismrmrdHeader/>") as file:
        for n in range(20):
            file.append(image(pixels(n, kind=kind), number=str(n), name="ä"))
            file.append(image(pixels(n, (3, 3), kind), series=2))
        assert file.count == 40
    with ismrmrd.Dataset(path, mode="r") as dataset:
        assert dataset.read_xml_header() == b"<ismrmrdHeader/>"
        assert dataset.number_of_images("image_1") == 20
        assert dataset.number_of_images("image_2") == 20
        for n in range(20):
            read = dataset.read_image("image_1", n)
            np.testing.assert_array_equal(read.data, pixels(n, kind=kind)[None, None])
            assert read.meta == {"number": str(n), "name": "ä"}
            assert read.matrix_size == (4, 6, 1)
            assert tuple(read.field_of_view) == (10.0, 20.0, 5.0)
            assert read.getHead().attribute_string_len == len(read.attribute_string.encode())


@pytest.mark.parametrize("offset", [0.0, -2.0])
def test_uint16_has_one_scale_for_the_whole_series(path, offset):
    with ImageFile(path, dtype="uint16") as file:
        for n in range(5):
            file.append(image(pixels(n) + np.float32(offset)))
    with ismrmrd.Dataset(path, mode="r") as dataset:
        images = [dataset.read_image("image_1", n) for n in range(5)]
    assert len({i.meta["RescaleSlope"] for i in images}) == 1
    slope = float(images[0].meta["RescaleSlope"])
    intercept = float(images[0].meta["RescaleIntercept"])
    assert max(i.data.max() for i in images) == UINT16_TOP
    for n, read in enumerate(images):
        assert read.data.dtype == np.uint16
        assert read.data_type == ismrmrd.DATATYPE_USHORT
        restored = slope * read.data[0, 0] + intercept
        np.testing.assert_allclose(restored, pixels(n) + offset, atol=0.51 * slope)


def test_uint16_of_an_empty_picture(path):
    with ImageFile(path, dtype="uint16") as file:
        file.append(image(np.zeros((2, 2), np.float32)))
    with ismrmrd.Dataset(path, mode="r") as dataset:
        assert not dataset.read_image("image_1", 0).data.any()


def write_and_fail(path, **options):
    with ImageFile(path, **options) as file:
        file.append(image(pixels(0)))
        raise RuntimeError("midway")


@pytest.mark.parametrize("dtype", [None, "uint16"])
def test_after_an_error_nothing_is_left(path, dtype):
    with pytest.raises(RuntimeError, match="midway"):
        write_and_fail(path, dtype=dtype)
    assert list(path.parent.iterdir()) == []


def test_an_existing_file_survives_an_error_while_overwriting(path):
    path.write_text("precious")
    with pytest.raises(RuntimeError, match="midway"):
        write_and_fail(path, overwrite=True)
    assert path.read_text() == "precious"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("dtype", [None, "uint16"])
@pytest.mark.parametrize("size", [1_000, 50_000, 200_000])
def test_a_full_disk_is_one_error(path, dtype, size):
    def write():
        with ImageFile(path, xml="<ismrmrdHeader/>", dtype=dtype) as file:
            for n in range(20):
                file.append(image(pixels(n, (64, 64))))

    with no_file_larger_than(size), pytest.raises(OutputError, match=r"can't write .*out\.h5"):
        write()
    assert list(path.parent.iterdir()) == []
    write()
    with h5py.File(path) as stored:
        assert len(stored["dataset/image_1/data"]) == 20


def test_existing_files_are_refused_unless_told(path):
    path.write_text("precious")
    with pytest.raises(OutputExistsError, match="exists already"):
        ImageFile(path)
    with ImageFile(path, overwrite=True) as file:
        file.append(image(pixels(0)))
    with h5py.File(path) as file:
        assert len(file["dataset/image_1/data"]) == 1


def test_nothing_appears_under_the_final_name_before_the_end(path):
    with ImageFile(path) as file:
        file.append(image(pixels(0)))
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_incomplete_replaces_nothing_unasked(path, overwrite):
    for n in range(3):
        with ImageFile(path, overwrite=overwrite) as file:
            file.append(image(pixels(n)))
            kept = file.save_incomplete()
            assert not path.exists()
        with h5py.File(kept) as stored:
            np.testing.assert_array_equal(stored["dataset/image_1/data"][0, 0, 0], pixels(n))
    more = [] if overwrite else ["out_incomplete_2.h5", "out_incomplete_3.h5"]
    assert sorted(p.name for p in path.parent.iterdir()) == ["out_incomplete.h5", *more]


def test_missing_folder_and_unknown_dtype(path):
    with pytest.raises(OutputError, match="no folder"):
        ImageFile(path.parent / "nowhere" / "out.h5")
    with pytest.raises(ConfigurationError, match="'int8' is not known"):
        ImageFile(path, dtype="int8")


def test_images_of_a_series_have_one_shape_and_type(path):
    with ImageFile(path) as file:
        file.append(image(pixels(0)))
        with pytest.raises(OutputError, match=r"expected float32 \(1, 1, 6, 4\)"):
            file.append(image(pixels(0, (5, 5))))
        with pytest.raises(OutputError, match="complex64"):
            file.append(image(pixels(0, kind=np.complex64)))


def test_complex_images_are_not_stored_as_uint16(path):
    with pytest.raises(OutputError, match="store magnitudes"), ImageFile(path, dtype="uint16") as f:
        f.append(image(pixels(0, kind=np.complex64)))
    assert not path.exists()
