"""PSNR and SSIM against an independent implementation."""

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from chpnet_stream.similarity import compare


def pair(noise: float = 0.05, shape: tuple[int, int] = (40, 33)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    truth = 2 + np.sin(y / 5) + np.cos(x / 3)
    return np.abs(truth + noise * rng.standard_normal(shape)), truth


def test_scores_are_those_of_scikit_image_after_the_scale() -> None:
    image, truth = pair()
    found = compare(image, truth)
    peak = float(truth.max())
    scaled = found.scale * image
    assert found.psnr == pytest.approx(
        peak_signal_noise_ratio(truth, scaled, data_range=peak), abs=1e-9
    )
    _, ssim = structural_similarity(truth, scaled, data_range=peak, full=True)
    assert found.ssim == pytest.approx(float(ssim[3:-3, 3:-3].mean()), abs=1e-9)


def test_units_do_not_matter() -> None:
    image, truth = pair()
    one, other = compare(image, truth), compare(1e6 * image.astype(np.float32), truth)
    assert other.psnr == pytest.approx(one.psnr, abs=1e-4)
    assert other.ssim == pytest.approx(one.ssim, abs=1e-6)
    assert other.scale == pytest.approx(1e-6 * one.scale)


def test_the_scale_is_the_best_one() -> None:
    image, truth = pair(0.3)
    scale = compare(image, truth).scale
    errors = [((f * scale * image - truth) ** 2).sum() for f in (0.99, 1.0, 1.01)]
    assert errors[1] == min(errors)


def test_edge_cases() -> None:
    _, truth = pair()
    equal = compare(truth, truth)
    assert equal.psnr == math.inf or equal.psnr > 150
    assert equal.ssim == pytest.approx(1.0)
    assert compare(np.zeros((9, 9)), truth[:9, :9]).scale == 0.0
    small = compare(*pair(shape=(5, 9)))
    assert small.psnr > 20
    assert math.isnan(small.ssim)
    assert math.isnan(compare(truth, 0 * truth).ssim)
    with pytest.raises(ValueError, match="one shape"):
        compare(truth, truth[1:])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_an_image_with_pixels_that_are_no_numbers_is_not_the_best_one(
    value: float, which: int
) -> None:
    images = pair()
    images[which][3, 4] = value
    found = compare(*images)
    assert math.isnan(found.psnr)
    assert not found.ssim > 0
