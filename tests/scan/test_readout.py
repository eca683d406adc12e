import numpy as np
import pytest

from chpnet_stream.errors import InconsistentScanError
from chpnet_stream.scan.readout import (
    ReadoutGrid,
    centred_fft,
    centred_ifft,
    crop_centre,
    remove_oversampling,
)
from tests.scan.building import Scan, cropped, random_kspace

GRID = ReadoutGrid(64, 32)


@pytest.mark.parametrize("n", [7, 8])
def test_centred_ffts_are_orthonormal_inverses_with_the_centre_at_n_over_2(n):
    x = random_kspace((2, n), n)
    np.testing.assert_allclose(centred_fft(centred_ifft(x)), x, atol=1e-6)
    assert np.linalg.norm(centred_fft(x)) == pytest.approx(np.linalg.norm(x), rel=1e-6)
    delta = np.zeros(n, np.complex64)
    delta[n // 2] = 1
    np.testing.assert_allclose(centred_ifft(delta), np.full(n, n**-0.5), atol=1e-7)


@pytest.mark.parametrize(("n", "size"), [(64, 32), (60, 31), (65, 32), (64, 64)])
def test_oversampling_removal_is_a_crop_in_image_space(n, size):
    kspace = random_kspace((2, 3, n), n)
    np.testing.assert_allclose(remove_oversampling(kspace, size), cropped(kspace, size), atol=1e-5)


def test_oversampling_removal_keeps_the_noise_level():
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal((400, 64)) + 1j * rng.standard_normal((400, 64))).astype("c8")
    assert np.mean(np.abs(remove_oversampling(noise, 32)) ** 2) == pytest.approx(2, rel=0.03)


def test_crop_cannot_grow():
    with pytest.raises(ValueError, match="can't crop an axis of 4 to 5"):
        crop_centre(np.zeros(4), 5)


def test_whole_readout():
    scan = Scan.of()
    samples, echo = GRID.place(scan.line(3))
    np.testing.assert_allclose(samples, cropped(scan.kspace[:, 0, 3], 32), atol=1e-5)
    assert samples.dtype == np.complex64
    assert echo == (0, 32)


def test_reversed_readout_is_turned_round():
    scan = Scan.of()
    forward, _ = GRID.place(scan.line(3))
    backward, echo = GRID.place(scan.line(3, 22, data=scan.kspace[:, 0, 3, ::-1]))
    np.testing.assert_array_equal(backward, forward)
    assert echo == (0, 32)


def test_asymmetric_echo_is_placed_by_its_centre_sample():
    scan = Scan.of()
    line = scan.line(3, data=scan.kspace[:, 0, 3, 20:], center_sample=12)
    samples, echo = GRID.place(line)
    expected = scan.kspace[:, 0, 3].copy()
    expected[:, :20] = 0
    np.testing.assert_allclose(samples, cropped(expected, 32), atol=1e-5)
    assert echo == (10, 32)  # sample 20 of 64 is 12 steps below the centre: 6 of the cropped grid


def test_reversed_asymmetric_echo():
    scan = Scan.of()
    forward, echo = GRID.place(scan.line(3, data=scan.kspace[:, 0, 3, 20:], center_sample=12))
    line = scan.line(3, 22, data=scan.kspace[:, 0, 3, :19:-1], center_sample=12)
    backward, turned = GRID.place(line)
    np.testing.assert_array_equal(backward, forward)
    assert turned == echo


@pytest.mark.parametrize("reverse", [False, True])
def test_discarded_samples_do_not_count(reverse):
    scan = Scan.of()
    data = scan.kspace[:, 0, 3].copy()
    expected = data.copy()
    expected[:, :10] = expected[:, 60:] = 0
    data[:, :10] = data[:, 60:] = 1e6
    if reverse:
        line = scan.line(3, 22, data=data[:, ::-1], discard_pre=4, discard_post=10)
    else:
        line = scan.line(3, data=data, discard_pre=10, discard_post=4)
    samples, echo = GRID.place(line)
    np.testing.assert_allclose(samples, cropped(expected, 32), atol=1e-4)
    assert echo == (5, 30)


@pytest.mark.parametrize("centre", [16, 0, 32])
def test_readouts_that_came_cropped_are_taken_as_they_are(centre):
    """Whoever cropped them may have left center_sample at 32 of 64."""
    scan = Scan.of()
    data = cropped(scan.kspace[:, 0, 3], 32).astype(np.complex64)
    samples, echo = GRID.place(scan.line(3, data=data, center_sample=centre))
    np.testing.assert_array_equal(samples, data)
    assert echo == (0, 32)


def test_centre_sample_that_was_never_filled_in():
    scan = Scan.of()
    expected, _ = GRID.place(scan.line(3))
    samples, _ = GRID.place(scan.line(3, center_sample=0))
    np.testing.assert_array_equal(samples, expected)


def test_the_centre_of_a_reversed_readout_may_be_counted_as_it_was_acquired():
    scan = Scan.of()
    forward, _ = GRID.place(scan.line(3))
    turned = scan.line(3, 22, data=scan.kspace[:, 0, 3, ::-1], center_sample=31)
    np.testing.assert_array_equal(GRID.place(turned)[0], forward)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_centre_that_is_one_off_costs_one_sample(reverse):
    """Sample 33 of 64 at the k-space centre: the others lie at -33 to 30, the first one outside."""
    scan = Scan.of()
    data = scan.kspace[:, 0, 3]
    wanted = np.zeros_like(data)
    wanted[:, :63] = data[:, 1:]
    line = scan.line(
        3, *((22,) if reverse else ()), data=data[:, ::-1] if reverse else data, center_sample=33
    )
    samples, echo = GRID.place(line)
    np.testing.assert_allclose(samples, cropped(wanted, 32), atol=1e-5)
    assert echo == (0, 32)
    wanted[:] = 0
    wanted[:, 1:] = data[:, :63]
    samples, _ = GRID.place(scan.line(3, center_sample=31))
    np.testing.assert_allclose(samples, cropped(wanted, 32), atol=1e-5)


def test_samples_outside_the_matrix_are_refused():
    scan = Scan.of()
    with pytest.raises(InconsistentScanError, match="64 samples with its centre at 40"):
        GRID.place(scan.line(3, center_sample=40))
    with pytest.raises(InconsistentScanError, match="encoded matrix of 64"):
        GRID.place(scan.line(3, data=np.zeros((3, 80))))
    with pytest.raises(InconsistentScanError, match="discards 40 \\+ 40 of 64"):
        GRID.place(scan.line(3, discard_pre=40, discard_post=40))


def test_placing_does_not_change_the_acquisition():
    scan = Scan.of()
    line = scan.line(3, 22)
    before = line.data.copy()
    samples, _ = ReadoutGrid(64, 64).place(line)
    samples += 1
    np.testing.assert_array_equal(line.data, before)
