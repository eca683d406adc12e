import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import metrics

from chpnet_stream.errors import InputError
from chpnet_training import scoring


@pytest.fixture
def pair():
    generator = np.random.default_rng(3)
    reference = ndimage.gaussian_filter(generator.random((3, 40, 33)), (0, 2, 2))
    return reference + 0.02 * generator.normal(size=reference.shape), reference


def test_psnr_is_scikit_images(pair):
    estimate, reference = map(np.abs, pair)
    expected = metrics.peak_signal_noise_ratio(reference, estimate, data_range=reference.max())
    assert scoring.psnr(estimate, reference) == pytest.approx(expected, abs=1e-9)


def test_psnr_of_a_known_error_and_of_none():
    reference = np.full((8, 8), 2.0)
    assert scoring.psnr(reference - 0.2, reference) == pytest.approx(20)
    assert scoring.psnr(reference - 0.2, reference, data_range=0.2) == pytest.approx(0)
    assert scoring.psnr(reference, reference) == float("inf")


def test_ssim_is_scikit_images(pair):
    estimate, reference = map(np.abs, pair)
    peak = reference.max()
    expected = np.mean(
        [
            metrics.structural_similarity(r, e, data_range=peak, win_size=7)
            for e, r in zip(estimate, reference, strict=True)
        ]
    )
    assert scoring.ssim(estimate, reference) == pytest.approx(expected, abs=1e-9)


def test_the_map_of_ssim_is_scikit_images_to_the_border(pair):
    estimate, reference = pair[0][0], pair[1][0]
    _, expected = metrics.structural_similarity(reference, estimate, data_range=1.3, full=True)
    found = scoring.ssim_map(estimate, reference, 1.3)
    assert found.shape == reference.shape
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_nmse_of_a_scaled_image():
    reference = np.random.default_rng(0).random((5, 6))
    assert scoring.nmse(0.9 * reference, reference) == pytest.approx(0.01)


def test_hfen_is_relative_and_blind_to_offsets(pair):
    reference = pair[1][0] - pair[1][0].min()
    assert scoring.hfen(reference, reference) == 0
    assert scoring.hfen(0.7 * reference, reference) == pytest.approx(0.3)
    kernel = scoring.laplacian_of_gaussian()
    assert kernel.shape == (15, 15)
    assert kernel.sum() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(kernel, kernel.T)


def test_laplacian_of_gaussian_agrees_with_scipy():
    point = np.zeros((31, 31))
    point[15, 15] = 1
    expected = ndimage.gaussian_laplace(point, 1.5, truncate=8)[8:23, 8:23]
    np.testing.assert_allclose(scoring.laplacian_of_gaussian(), expected, atol=2e-3)


def test_hfen_of_blurring_exceeds_that_of_a_slow_error(pair):
    reference = pair[1][0]
    blurred = ndimage.gaussian_filter(reference, 1.5)
    slow = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=reference.shape), 8)
    slow *= np.linalg.norm(blurred - reference) / np.linalg.norm(slow)
    assert scoring.hfen(blurred, reference) > 3 * scoring.hfen(reference + slow, reference)


def test_score_takes_tensors_and_complex_values(pair):
    estimate, reference = map(np.abs, (pair[0][0], pair[1][0]))
    phase = np.exp(1j * np.arange(reference.size).reshape(reference.shape))
    plain = scoring.score(estimate, reference)
    tensors = scoring.score(torch.as_tensor(estimate * phase), torch.as_tensor(reference))
    assert plain.psnr == pytest.approx(tensors.psnr)
    assert plain.ssim == pytest.approx(tensors.ssim)
    assert plain.nmse == pytest.approx(tensors.nmse)
    assert plain.hfen == pytest.approx(tensors.hfen)


def test_shapes_must_agree():
    with pytest.raises(InputError, match="expected equal shapes"):
        scoring.psnr(np.ones((4, 4)), np.ones((4, 5)))
    with pytest.raises(InputError, match="at least 7 x 7"):
        scoring.ssim(np.ones((4, 4)), np.ones((4, 4)))
    with pytest.raises(InputError, match="reference is zero"):
        scoring.nmse(np.ones((4, 4)), np.zeros((4, 4)))
    with pytest.raises(InputError, match="no detail"):
        scoring.hfen(np.ones((64, 64)), np.pad(np.zeros((62, 62)), 1, constant_values=0) + 1e-300)


@pytest.fixture
def disk():
    y, x = np.mgrid[-32:32, -32:32]
    image = np.where(y**2 + x**2 < 24**2, 1.0 + 0.3 * np.sin(x / 3), 0.01)
    image[28:34, 28:34] = 0.01  # a hole, to be filled
    image[2:4, 2:4] = 1.0  # a speck, to be left out
    return image


def test_object_mask_is_filled_and_the_largest(disk):
    mask = scoring.object_mask(disk)
    y, x = np.mgrid[-32:32, -32:32]
    assert mask[y**2 + x**2 < 23**2].all()
    assert not mask[y**2 + x**2 > 26**2].any()


def test_object_mask_keeps_what_touches_the_border():
    assert scoring.object_mask(np.ones((16, 16))).all()
    with pytest.raises(InputError, match="no object"):
        scoring.object_mask(np.zeros((16, 16)))


def test_raw_score_ignores_scale_and_background(disk):
    mask = scoring.object_mask(disk)
    noisy = disk + 0.05 * np.random.default_rng(0).normal(size=disk.shape)
    plain = scoring.score_raw(noisy, disk)
    elsewhere = scoring.score_raw(7 * noisy, disk, mask)
    assert plain.psnr == pytest.approx(elsewhere.psnr)
    assert plain.ssim == pytest.approx(elsewhere.ssim)
    assert plain.psnr == pytest.approx(20 * np.log10(disk[mask].max() / 0.05), abs=0.3)
    assert scoring.score_raw(disk, disk).psnr > 200
    assert scoring.score_raw(disk, disk).ssim == pytest.approx(1)


def test_a_volume_has_one_scale_and_one_peak(disk):
    """A dim slice beside a bright one: its errors count as they are, not by its own peak."""
    generator = np.random.default_rng(1)
    reference = np.stack([disk, 0.2 * disk])
    estimate = np.abs(reference + 0.02 * generator.normal(size=reference.shape))
    mask = np.stack([scoring.object_mask(piece) for piece in reference])
    volume = scoring.score_volume(3 * estimate, reference)
    scale = scoring.least_squares_scale(estimate, reference, mask)
    error = np.mean((scale * estimate - reference)[mask] ** 2)
    assert volume.psnr == pytest.approx(10 * np.log10(reference[mask].max() ** 2 / error))
    assert volume.nmse == pytest.approx(error * mask.sum() / np.sum(reference[mask] ** 2))
    slices = [scoring.score_raw(a, b) for a, b in zip(estimate, reference, strict=True)]
    assert volume.psnr > np.mean([one.psnr for one in slices]) + 3
    assert volume.hfen < slices[1].hfen
    again = scoring.score_volume(np.stack([disk, disk]), np.stack([disk, disk]))
    assert again.ssim == pytest.approx(1)
    one = scoring.score_volume(estimate[:1], reference[:1])
    assert one == scoring.score_raw(estimate[0], reference[0])


def test_raw_reference_recovers_the_object(disk):
    generator = np.random.default_rng(5)
    maps = generator.normal(size=(4, 64, 64)) + 1j * generator.normal(size=(4, 64, 64))
    maps /= np.sqrt((np.abs(maps) ** 2).sum(axis=0)) / 0.5  # norm one half everywhere
    axes = (-2, -1)
    kspace = np.fft.fftshift(
        np.fft.fft2(np.fft.ifftshift(maps * disk, axes=axes), norm="ortho"), axes=axes
    )
    np.testing.assert_allclose(scoring.coil_norm(maps), 0.5)
    np.testing.assert_allclose(scoring.raw_reference(kspace, maps), 0.125 * disk, atol=1e-12)
