import numpy as np
import pytest

from chpnet_stream.simulation.geometry import slice_geometry
from tests.helpers import small_options


def test_an_axial_stack() -> None:
    options = small_options(slices=3, thickness_mm=4.0, gap_mm=1.0, centre_mm=(1.0, 2.0, 3.0))
    for number, offset in enumerate((-5.0, 0.0, 5.0)):
        geometry = slice_geometry(options, number)
        np.testing.assert_array_equal(geometry.read, [1, 0, 0])
        np.testing.assert_array_equal(geometry.phase, [0, 1, 0])
        np.testing.assert_array_equal(geometry.normal, [0, 0, 1])
        np.testing.assert_array_equal(geometry.position_mm, [1, 2, 3 + offset])
        assert geometry.offset_mm == offset


@pytest.mark.parametrize("tilt", [(30.0, 0.0, 0.0), (0.0, -20.0, 0.0), (10.0, 15.0, 40.0)])
def test_tilted_frames_are_right_handed(tilt: tuple[float, float, float]) -> None:
    geometry = slice_geometry(small_options(tilt_deg=tilt), 0)
    frame = np.stack([geometry.read, geometry.phase, geometry.normal])
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(frame) == pytest.approx(1)


def test_turning_about_the_normal_keeps_it() -> None:
    plain = slice_geometry(small_options(tilt_deg=(25.0, 10.0, 0.0)), 0)
    turned = slice_geometry(small_options(tilt_deg=(25.0, 10.0, 90.0)), 0)
    np.testing.assert_allclose(turned.normal, plain.normal, atol=1e-12)
    np.testing.assert_allclose(turned.read, plain.phase, atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 10), (7, 9)])
def test_points_are_centred_and_spaced(shape: tuple[int, int]) -> None:
    geometry = slice_geometry(small_options(centre_mm=(5.0, 6.0, 7.0), slices=1), 0)
    x, y, z = geometry.points(shape, (70.0, 90.0), through_mm=1.5)
    middle = shape[0] // 2, shape[1] // 2
    assert (x[middle], y[middle], z[middle]) == (5.0, 6.0, 8.5)
    np.testing.assert_allclose(np.diff(x, axis=1), 90 / shape[1], rtol=1e-4)
    np.testing.assert_allclose(np.diff(y, axis=0), 70 / shape[0], rtol=1e-4)
    assert np.ptp(z) == 0
