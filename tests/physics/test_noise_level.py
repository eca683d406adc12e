"""The noise level estimated from image data, against the one that was put in."""

import numpy as np
import pytest
import torch

from chpnet_stream.physics.fourier import fft
from chpnet_stream.physics.noise_level import estimate_noise
from tests.helpers import ellipse_kspace


def disc_kspace(fill: float = 0.8, shape: tuple[int, int] = (96, 80), coils: int = 4):
    """A disc with texture that fills a share of the field of view, in k-space of `coils` coils."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = (x**2 + y**2 < fill**2).float()
    image = inside * (1 + 0.3 * torch.randn(shape))
    gains = torch.tensor([10.0 ** (c / 2) for c in range(coils)])
    return fft((gains[:, None, None] * image).to(torch.complex64)), gains


def noisy(kspace: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return kspace + sigma[:, None, None] * torch.randn_like(kspace)


@pytest.mark.parametrize("fill", [0.5, 0.8])
@pytest.mark.parametrize("spacing", [1, 4])
def test_every_coils_noise_is_found(fill: float, spacing: int) -> None:
    kspace, gains = disc_kspace(fill)
    sigma = 0.01 * gains
    sampled = (torch.arange(96) % spacing == 0).int()
    found = estimate_noise(noisy(kspace, sigma) * sampled[:, None], sampled)
    assert found.shape == (4,)
    assert (found / sigma).numpy() == pytest.approx(np.ones(4), rel=0.2)
    assert float((found / sigma).mean()) == pytest.approx(1, rel=0.1)


def test_averages_and_asymmetric_echoes_count() -> None:
    kspace, gains = disc_kspace()
    sigma = 0.02 * gains
    averages = torch.full((96,), 4).int()
    averages[::2] = 9
    data = kspace + (sigma[:, None, None] / averages.sqrt()[:, None]) * torch.randn_like(kspace)
    data[..., :20] = 7.0  # what lies outside the echo is no data
    found = estimate_noise(data, averages, (20, 80))
    assert float((found / sigma).mean()) == pytest.approx(1, rel=0.15)


def test_noise_alone_is_noise() -> None:
    data = torch.randn(3, 64, 64, dtype=torch.complex64)
    found = estimate_noise(data, torch.ones(64))
    assert found.numpy() == pytest.approx(np.ones(3), rel=0.15)


def test_an_object_that_fills_the_field_of_view_is_overestimated_not_underestimated() -> None:
    kspace, gains = disc_kspace(fill=3.0)
    sigma = 0.01 * gains
    found = estimate_noise(noisy(kspace, sigma), torch.ones(96))
    assert bool((found > 0.8 * sigma).all())


@pytest.mark.parametrize("first", [0, 38])
def test_an_object_that_leaves_no_air_along_the_readout(first: int) -> None:
    """As a knee does; of partial Fourier, the first lines are beside the centre."""
    k = np.arange(-48, 48).astype(float)
    one = ellipse_kspace(k[:, None], k[None, :], (0.02, 0.03), (0.35, 0.7))
    gains = torch.tensor([1.0, 0.5, 2.0])
    kspace = gains[:, None, None] * torch.from_numpy(one).to(torch.complex64)
    sigma = 5e-4 * gains
    sampled = (torch.arange(96) >= first).int()
    found = estimate_noise(noisy(kspace, sigma) * sampled[:, None], sampled)
    ratio = (found / sigma).numpy()
    assert ratio.min() > 0.8
    assert ratio.max() < 1.5


@pytest.mark.parametrize("filtered", ["elliptical", "Hann"])
def test_corners_that_somebody_has_emptied_are_no_noise(filtered: str) -> None:
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, 96),) * 2, indexing="ij")
    window = (torch.hypot(y, x) < 1).float()
    if filtered == "Hann":
        window = (torch.cos(torch.pi / 2 * y) * torch.cos(torch.pi / 2 * x)).square()
    data = torch.randn(3, 96, 96, dtype=torch.complex64) * window
    outer = (y.abs() > 0.6) & (x.abs() < 0.8)
    beside = float((window[outer].square()).mean().sqrt())
    found = estimate_noise(data, torch.ones(96))
    assert float(found.min()) > 0.4 * beside


def test_nothing_measured_has_no_noise() -> None:
    kspace = torch.zeros(2, 16, 16, dtype=torch.complex64)
    assert estimate_noise(kspace, torch.zeros(16)).tolist() == [0, 0]
    assert estimate_noise(kspace, torch.ones(16)).tolist() == [0, 0]
    assert estimate_noise(kspace, torch.ones(16), (5, 5)).tolist() == [0, 0]
    assert estimate_noise(torch.ones(1, 4, 5, dtype=torch.complex64), torch.ones(4)).shape == (1,)


def test_a_dead_coil_does_not_hide_the_others() -> None:
    data = torch.randn(3, 64, 64, dtype=torch.complex64)
    data[1] = 0
    found = estimate_noise(data, torch.ones(64))
    assert found[1] == 0
    assert found[[0, 2]].numpy() == pytest.approx([1, 1], rel=0.15)
