import ismrmrd
import numpy as np
import pytest

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


def test_an_empty_first_image_is_no_scale_of_zero() -> None:
    assert PixelScale.of(np.zeros((2, 2))).slope == 1
