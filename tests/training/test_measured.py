import numpy as np
import pytest
import torch

from chpnet_stream.errors import InputError
from chpnet_stream.physics.coils import combine
from chpnet_stream.physics.fourier import fft, ifft
from chpnet_stream.simulation.scan import simulate_scan
from chpnet_training.dataset import collate
from chpnet_training.measured import measured_samples
from chpnet_training.readers.mrd import read_mrd
from chpnet_training.simulation import SimulationConfig
from tests.helpers import small_options

CONFIG = SimulationConfig(
    matrix_y=(64, 64), matrix_x=(64, 64), strip=40, strips=3, virtual_coils=6,
    accelerations=(2, 3), calibration=(16, 20), noise_error=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def kspace(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.h5"
    simulate_scan(path, small_options(acceleration=1, coils=6, snr=30.0))
    return next(read_mrd(path)).kspace


def samples(kspace, config=CONFIG, seed=0):
    return measured_samples(kspace, config, np.random.default_rng(seed))


def test_samples_are_those_of_a_simulated_slice(kspace):
    found = samples(kspace)
    assert len(found) == 3
    for sample in found:
        coils, lines, columns = sample.maps.shape
        assert coils <= 6
        assert (lines, columns) == (64, 40)
        assert sample.mask.shape == (64,)
        assert set(sample.mask.tolist()) == {0.0, 1.0}
        assert sample.adjoint.shape == sample.target.shape == (64, 40)
        assert sample.target.dtype == torch.complex64
    assert collate(found).target.shape == (3, 2, 64, 40)


def test_unit_is_the_99th_percentile_of_the_whole_target(kspace):
    whole = CONFIG.model_copy(update={"strip": 64, "strips": 1})
    (sample,) = samples(kspace, whole)
    assert torch.quantile(sample.target.abs().flatten(), 0.99) == pytest.approx(1, rel=1e-3)


def test_scale_of_the_data_does_not_matter(kspace):
    for one, other in zip(samples(kspace), samples(1000 * kspace), strict=True):
        torch.testing.assert_close(one.target, other.target, rtol=1e-3, atol=1e-3)
        assert one.noise == pytest.approx(1000 * other.noise, rel=1e-3)


def test_without_undersampling_the_adjoint_is_the_target(kspace):
    config = CONFIG.model_copy(
        update={"accelerations": (1,), "random_lines": 0.0, "partial_fourier": 0.0}
    )
    for sample in samples(kspace, config):
        assert sample.mask.all()
        torch.testing.assert_close(sample.adjoint, sample.target, rtol=1e-4, atol=1e-5)


def test_adjoint_is_what_the_mask_left_of_the_data(kspace):
    """Data of one coil with a known map: the strip's lines, masked, and back."""
    one = kspace[:1]
    config = CONFIG.model_copy(update={"strip": 64, "strips": 1})
    (sample,) = samples(one, config)
    image = combine(ifft(torch.from_numpy(one)), torch.sgn(sample.maps))
    spectrum = fft(image * sample.maps[0], dim=-2) * sample.mask[:, None]
    expected = combine(ifft(spectrum, dim=-2)[None], sample.maps)
    # both in the same units
    expected = expected * (sample.target.norm() / (image * (sample.maps[0].abs() > 0)).norm())
    torch.testing.assert_close(sample.adjoint.abs(), expected.abs(), rtol=2e-2, atol=2e-2)


def test_noise_is_that_of_the_scan(kspace):
    """In air the target has the noise that the student is told of."""
    config = CONFIG.model_copy(update={"strip": 64, "strips": 1})
    rng = np.random.default_rng(0)
    white = rng.normal(size=(*kspace.shape, 2)) @ np.array([0.5**0.5, 0.5**0.5 * 1j])
    noisy = (kspace + 3 * white).astype(np.complex64) / np.sqrt(10)  # 1 + 9: unit variance again
    (sample,) = samples(noisy, config)
    clean = samples(kspace / np.sqrt(10), config)[0]
    inside = sample.maps.abs().sum(0) * clean.maps.abs().sum(0) > 0
    ratio = clean.noise / sample.noise
    difference = (sample.target.abs() / ratio - clean.target.abs())[inside]
    assert difference.std() == pytest.approx(sample.noise / ratio * np.sqrt(0.9), rel=0.35)


def test_the_same_seed_gives_the_same_samples(kspace):
    first, again, other = samples(kspace), samples(kspace), samples(kspace, seed=1)
    torch.testing.assert_close(first[0].adjoint, again[0].adjoint, rtol=0, atol=0)
    assert any(
        a.mask.shape != b.mask.shape or not torch.equal(a.mask, b.mask)
        for a, b in zip(first, other, strict=True)
    )


def test_narrow_slices_give_narrow_strips(kspace):
    narrow = kspace[:, :, 16:48]
    assert samples(np.ascontiguousarray(narrow))[0].target.shape == (64, 32)


def test_nothing_but_zeros_is_refused(kspace):
    with pytest.raises(InputError, match="no coil maps"):
        samples(np.zeros_like(kspace))
