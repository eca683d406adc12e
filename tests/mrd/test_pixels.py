import ismrmrd
import numpy as np
import pytest

from chpnet_stream.mrd.image_file import tell_scale
from chpnet_stream.mrd.pixels import PixelScale


def image(data: np.ndarray) -> ismrmrd.Image:
    made = ismrmrd.Image.from_array(data.astype(np.float32), transpose=False, slice=3)
    made.meta = {"GADGETRON_WindowCenter": "100", "WindowCenter": "100", "DataRole": "Image"}
    return made


def test_the_first_image_sets_the_scale_of_all() -> None:
    first = 50 * np.random.default_rng(0).random((8, 8))
    scale = PixelScale.of(first)
    for data in (first, 0.1 * first, 3 * first):
        stored = scale.apply(image(data))
        assert stored.data.dtype == np.uint16
        assert stored.data_type == ismrmrd.DATATYPE_USHORT
        assert stored.slice == 3
        np.testing.assert_allclose(stored.data[0, 0] * scale.slope, data, atol=0.51 * scale.slope)
        assert stored.meta["RescaleSlope"] == f"{scale.slope:.9g}"
        assert stored.meta["WindowCenter"] == "100"
        centre = float(stored.meta["GADGETRON_WindowCenter"]) * scale.slope
        assert centre == pytest.approx(100, abs=scale.slope)


def test_what_is_too_bright_is_cut_off_and_nothing_wraps() -> None:
    scale = PixelScale.of(np.ones((2, 2)))
    stored = scale.apply(image(np.array([[100.0, -1.0], [0.0, 1.0]]))).data[0, 0]
    assert stored[0, 0] == 32767
    assert stored[0, 1] == 0


def test_a_first_image_of_noise_alone_leaves_room_for_the_head() -> None:
    noise = np.abs(np.random.default_rng(0).standard_normal((64, 64)))
    scale = PixelScale.of(noise, 1.0)
    head = np.array([[500.0, 3.0], [1500.0, 0.0]])
    assert not scale.cuts_off(head)
    back = scale.apply(image(head)).data[0, 0] * scale.slope
    np.testing.assert_allclose(back, head, atol=0.03)  # of the noise's deviation
    assert scale.cuts_off(10 * head)
    assert PixelScale.of(16 * noise, 16.0).slope == pytest.approx(16 * scale.slope)
    bright = PixelScale.of(1e4 * noise, 1.0)
    assert bright.slope == PixelScale.of(1e4 * noise).slope
    assert not bright.cuts_off(3e4 * noise)


def test_images_in_units_of_their_own_are_not_rounded_to_nothing() -> None:
    """A root sum of squares that could not be whitened."""
    raw = 1e-5 * np.random.default_rng(0).random((8, 8))
    scale = PixelScale.of(raw, 1.0)
    stored = scale.apply(image(raw)).data[0, 0]
    np.testing.assert_allclose(stored * scale.slope, raw, atol=0.01 * raw.max())


def test_an_empty_first_image_is_no_scale_of_zero() -> None:
    assert PixelScale.of(np.zeros((2, 2))).slope == 1
    assert PixelScale.of(np.zeros((2, 2)), 2.0).slope == pytest.approx(0.1)


def test_the_window_of_stored_values_reckons_with_the_intercept() -> None:
    meta = {"GADGETRON_WindowCenter": "100", "GADGETRON_WindowWidth": "40", "WindowCenter": "100"}
    tell_scale(meta, 0.5, -10.0)
    assert (meta["GADGETRON_WindowCenter"], meta["GADGETRON_WindowWidth"]) == ("220", "80")
    assert (meta["WindowCenter"], meta["RescaleIntercept"]) == ("100", "-10")
