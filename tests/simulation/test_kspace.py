import numpy as np
import pytest

from chpnet_stream.simulation.geometry import slice_geometry
from chpnet_stream.simulation.kspace import (
    ECHO_SPACING_MS,
    echo_times_ms,
    measure_kspace,
    root_sum_of_squares,
    simulate_slice,
)
from chpnet_stream.simulation.phantom import HeadPhantom
from tests.helpers import ellipse_kspace, relative_error, small_options


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (48, 63)])
@pytest.mark.parametrize("oversampling", [1, 2])
def test_equals_the_analytic_transform_of_an_ellipse(
    rows: int, columns: int, oversampling: int
) -> None:
    height, width = 220.0, 240.0
    centre, half_axes, angle = (7.0, -11.0), (71.0, 52.0), 0.4
    finer = 12
    y, x = (
        (np.arange(finer * n) - finer * n // 2) * (fov / (finer * n))
        for n, fov in ((rows, height), (columns, width))
    )
    v, u = y[:, None] - centre[0], x[None, :] - centre[1]
    turned_v = v * np.cos(angle) + u * np.sin(angle)
    turned_u = u * np.cos(angle) - v * np.sin(angle)
    inside = (turned_v / half_axes[0]) ** 2 + (turned_u / half_axes[1]) ** 2 <= 1
    found = measure_kspace(inside[None].astype(np.complex64), (rows, columns), oversampling)[0]

    samples = columns * oversampling
    ky = (np.arange(rows) - rows // 2)[:, None] / height
    kx = (np.arange(samples) - samples // 2)[None, :] / (width * oversampling)
    pixel = (height / rows) * (width / columns)
    expected = ellipse_kspace(ky, kx, centre, half_axes, angle) / pixel / np.sqrt(rows * samples)
    assert relative_error(found, expected) < 0.005


def test_a_sharp_edge_rings() -> None:
    """The overshoot of a truncated Fourier series, 9 % of the step, comes through."""
    image = np.zeros((1, 256, 256), np.complex64)
    image[:, 64:192, :] = 1
    kspace = measure_kspace(image, (64, 64), 1)
    profile = root_sum_of_squares(kspace, (64, 64))[:, 32]
    assert 1.05 < profile.max() < 1.12


def test_truth_belongs_to_the_kspace_and_the_maps() -> None:
    options = small_options(contrasts=2, matrix=(64, 80))
    truth = simulate_slice(HeadPhantom(0), options, slice_geometry(options, 0))
    assert truth.kspace.shape == (2, 4, 64, 160)
    assert truth.images.shape == (2, 64, 80)
    assert truth.coil_maps.shape == (4, 64, 80)
    assert truth.kspace.dtype == truth.coil_maps.dtype == np.complex64
    for kspace, image in zip(truth.kspace, truth.images, strict=True):
        np.testing.assert_array_equal(root_sum_of_squares(kspace, (64, 80)), image)

    # A coil's share of the image is its share of the sensitivities, where there is signal.
    coil = root_sum_of_squares(truth.kspace[0, :1], (64, 80))
    total = np.sqrt(np.sum(np.abs(truth.coil_maps) ** 2, axis=0))
    head = truth.images[0] > 0.3 * truth.images[0].max()
    shares = coil / truth.images[0], np.abs(truth.coil_maps[0]) / total
    assert relative_error(shares[0][head], shares[1][head]) < 0.05


def test_echo_times() -> None:
    times = echo_times_ms(small_options(contrasts=3, weighting="t2"))
    assert times == [95.0, 95.0 + ECHO_SPACING_MS, 95.0 + 2 * ECHO_SPACING_MS]
