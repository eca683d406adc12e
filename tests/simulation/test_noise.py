import numpy as np
import pytest

from chpnet_stream.simulation.noise import NOISE_BANDWIDTH, CoilNoise


def test_samples_follow_the_covariance() -> None:
    noise = CoilNoise(3, sigma=2.0, rng=np.random.default_rng(1))
    samples = noise.samples(200_000)
    measured = samples @ samples.conj().T / samples.shape[1]
    np.testing.assert_allclose(measured, noise.covariance, atol=0.1)
    assert np.trace(noise.covariance).real / 3 == pytest.approx(2 * 2.0**2)


def test_a_longer_dwell_time_has_less_noise() -> None:
    noise = CoilNoise(2, sigma=1.0, rng=np.random.default_rng(1))
    ratio = noise.samples(100_000, dwell_ratio=2.5).std() / noise.samples(100_000).std()
    assert ratio == pytest.approx(1 / np.sqrt(2.5), rel=0.02)


def test_the_noise_scan_is_filtered_at_the_edges_of_the_band() -> None:
    noise = CoilNoise(4, sigma=1.0, rng=np.random.default_rng(1))
    spectrum = np.abs(np.fft.fft(noise.scan(100_000, dwell_ratio=1.0), norm="ortho")) ** 2
    middle = np.abs(np.fft.fftfreq(100_000)) < 0.2
    level = np.trace(noise.covariance).real / 4
    assert spectrum[:, middle].mean() == pytest.approx(level, rel=0.02)
    assert spectrum.mean() == pytest.approx(NOISE_BANDWIDTH * level, rel=0.02)


def test_no_noise_is_no_noise() -> None:
    assert not CoilNoise(2, sigma=0.0, rng=np.random.default_rng(1)).samples(10).any()
