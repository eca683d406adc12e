import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from chpnet_training.dataset import collate
from chpnet_training.superres import SuperresConfig, superres_sample
from tests.physics.cases import phantom


def sample(factor=2, seed=1, shape=(48, 40), **changes):
    config = SuperresConfig(**{"matrix": 32, "noise": (0.0, 0.0), **changes})
    picture = phantom(shape).numpy()
    return superres_sample(picture, config, factor, np.random.default_rng(seed))


@pytest.mark.parametrize("factor", [2, 4])
def test_the_measured_image_is_the_mean_of_blocks(factor):
    made = sample(factor)
    assert made.target.shape == (32, 32)
    blocks = functional.avg_pool2d(made.target[None, None], factor)[0, 0]
    torch.testing.assert_close(made.low, blocks)
    assert float(torch.quantile(made.target.flatten(), 0.99)) == pytest.approx(1.0)
    assert float(made.target.min()) >= 0


def test_the_measured_image_can_be_the_centre_of_kspace():
    made = sample(measured="centre", matrix=64)
    spectrum = torch.fft.fftshift(torch.fft.fft2(made.target))
    spectrum = spectrum[16:48, 16:48]
    expected = torch.fft.ifft2(torch.fft.ifftshift(spectrum)).real.abs() / 4
    torch.testing.assert_close(made.low, expected, atol=1e-5, rtol=1e-4)
    batch = collate([made, made])
    assert batch.start.shape == batch.target.shape == (2, 1, 64, 64)
    torch.testing.assert_close(batch.normal.adjoint(made.low[None, None]), batch.adjoint[:1])
    fold = batch.normal(batch.adjoint)  # scaled to a largest eigenvalue of one
    assert float((fold - batch.adjoint).norm() / batch.adjoint.norm()) < 0.05


def test_noise_is_as_strong_as_it_says():
    clean, noisy = sample(matrix=256), sample(matrix=256, noise=(0.05, 0.05))
    assert torch.equal(clean.target, noisy.target)
    assert float((noisy.low - clean.low).std()) == pytest.approx(0.05, rel=0.03)
    assert noisy.noise == 0.05


def test_noise_is_drawn_from_its_range():
    levels = [sample(seed=seed, noise=(0.01, 0.03)).noise for seed in range(20)]
    assert 0.01 <= min(levels) < 0.015
    assert 0.025 < max(levels) <= 0.03
    assert sample(noise=(0.02, 0.02)).noise == 0.02


def test_a_range_goes_upwards():
    with pytest.raises(ValidationError, match=r"from 0\.03 to 0\.01"):
        SuperresConfig(noise=(0.03, 0.01))


def test_pictures_are_turned_by_the_seed():
    seen = {sample(seed=seed).target.numpy().tobytes() for seed in range(30)}
    assert 4 < len(seen) <= 8  # four turns, mirrored or not
    assert torch.equal(sample(seed=3).target, sample(seed=3).target)


def test_the_longer_side_fills_the_matrix():
    target = sample(shape=(64, 32)).target
    lines = [target.amax(dim=dim) > 1e-3 for dim in (0, 1)]
    assert sorted(int(line.sum()) for line in lines)[0] <= 18
