import numpy as np
import pytest
from PIL import Image

from chpnet_stream.errors import InputError
from chpnet_training.readers.pictures import read_array, read_image, read_picture


@pytest.fixture
def ramp():
    return np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def test_grey_png_keeps_values_and_orientation(tmp_path, ramp):
    Image.fromarray(ramp).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.magnitude.dtype == np.float32
    np.testing.assert_allclose(image.magnitude, ramp / 255, atol=1e-6)
    assert image.pixel_size_mm is None


def test_sixteen_bit_png_is_scaled_by_its_type(tmp_path, ramp):
    Image.fromarray(ramp.astype(np.uint16) * 200).save(tmp_path / "a.png")
    np.testing.assert_allclose(
        read_image(tmp_path / "a.png").magnitude, ramp.astype(float) * 200 / 65535, atol=1e-6
    )


def test_colour_becomes_luminance(tmp_path):
    colour = np.zeros((4, 4, 3), dtype=np.uint8)
    colour[:2, :, 0], colour[2:, :, 1] = 255, 255
    Image.fromarray(colour).save(tmp_path / "a.png")
    magnitude = read_image(tmp_path / "a.png").magnitude
    assert magnitude[0, 0] == pytest.approx(0.299, abs=0.003)
    assert magnitude[3, 0] == pytest.approx(0.587, abs=0.003)


def test_alpha_is_dropped(tmp_path, ramp):
    rgba = np.stack([ramp, ramp, ramp, np.full_like(ramp, 3)], axis=-1)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png").magnitude, ramp / 255, atol=0.005)


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((16, 32), dtype=np.uint8)
    pixels[:, :8] = 240  # left
    exif = Image.Exif()
    exif[0x0112] = 6  # the file is to be turned by 90 degrees clockwise: left becomes top
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    magnitude = read_image(tmp_path / "a.jpg").magnitude
    assert magnitude.shape == (32, 16)
    assert magnitude[:6].mean() > 0.9
    assert magnitude[12:].mean() < 0.05


def test_black_image_is_refused(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="all pixels are zero"):
        read_image(tmp_path / "a.png")


def test_array_is_scaled_by_its_maximum(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[3j, 0], [0, -6]]))
    np.testing.assert_allclose(read_array(tmp_path / "a.npy").magnitude, [[0.5, 0], [0, 1]])


@pytest.mark.parametrize("array", [np.zeros((2, 2, 2)), np.array([["a", "b"]])])
def test_array_of_another_kind_is_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match="expected a numeric array"):
        read_array(tmp_path / "a.npy")


def test_array_with_nan_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[np.nan, 1]]))
    with pytest.raises(InputError, match="1 of 2 samples are not finite"):
        read_array(tmp_path / "a.npy")


def test_content_decides_between_array_and_image(tmp_path, ramp):
    Image.fromarray(ramp).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", ramp)
    (tmp_path / "b.npy").rename(tmp_path / "b.png")
    assert read_picture(tmp_path / "a.png").magnitude.max() == pytest.approx(ramp.max() / 255)
    assert read_picture(tmp_path / "b.png").magnitude.max() == 1


def test_damaged_files_are_refused(tmp_path, ramp):
    Image.fromarray(ramp).save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "fake.jpg").write_text("no picture")
    for name in ("cut.png", "fake.jpg"):
        with pytest.raises(InputError, match=f"{name}: not a readable"):
            read_picture(tmp_path / name)
    with pytest.raises(InputError, match="can't be read"):
        read_picture(tmp_path / "absent.png")
