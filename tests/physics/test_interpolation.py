"""Finer pixels: zero-filling, written another way, by BART, and where it can't be written."""

from pathlib import Path

import numpy as np
import pytest
import torch

from chpnet_stream.physics.fourier import fft, ifft, resize_centred
from chpnet_stream.physics.interpolation import interpolate
from chpnet_training.bart import from_bart, run_bart, to_bart
from tests.physics.cases import complex_noise


@pytest.mark.parametrize("sizes", [(8, 12), (8, 13), (9, 12), (9, 15), (8, 8), (7, 7)])
@pytest.mark.parametrize("dim", [-1, -2, 0])
def test_a_whole_number_of_samples_is_zero_filling(sizes: tuple[int, int], dim: int) -> None:
    n, size = sizes
    image = complex_noise(n, n, n)
    found = interpolate(image, size, n / size, dim)
    filled = fft(image, dim).movedim(dim, -1)
    filled = resize_centred(filled, (size,)).movedim(-1, dim)
    torch.testing.assert_close(found, (size / n) ** 0.5 * ifft(filled, dim))


@pytest.mark.parametrize("n", [10, 11])
def test_any_distance_of_pixels_is_exact(n: int) -> None:
    """Waves at places that no zero-filling has: half pixels off, cut, and behind the edge."""
    rng = np.random.default_rng(0)
    frequencies = torch.arange(n, dtype=torch.float64) - n // 2
    weights = torch.from_numpy(rng.standard_normal(n) + 1j * rng.standard_normal(n))

    def wave(position: torch.Tensor) -> torch.Tensor:
        return torch.exp(2j * torch.pi * torch.outer(position, frequencies) / n) @ weights

    image = wave(torch.arange(n, dtype=torch.float64) - n // 2)
    size, step = 17, 0.613
    wanted = wave(step * (torch.arange(size, dtype=torch.float64) - size // 2))
    torch.testing.assert_close(interpolate(image[None], size, step, -1)[0], wanted)
    torch.testing.assert_close(interpolate(image[:, None], size, step, -2)[:, 0], wanted)


def test_bart_agrees(bart: Path) -> None:
    image = complex_noise(12, 15).to(torch.complex64)
    found = interpolate(interpolate(image, 25, 15 / 25, -1), 18, 12 / 18, -2)
    kspace, _ = run_bart(["fft", "-u", "3"], [to_bart(image.numpy()[None])])
    filled, _ = run_bart(["resize", "-c", "0", "25", "1", "18"], [kspace])
    theirs, _ = run_bart(["fft", "-u", "-i", "3"], [filled])
    scale = (25 * 18 / (15 * 12)) ** 0.5
    np.testing.assert_allclose(found.numpy(), scale * from_bart(theirs), atol=2e-6)


def test_the_values_of_single_precision_are_those_of_double() -> None:
    image = complex_noise(64, 48)
    exact = interpolate(image, 100, 0.48, -1)
    single = interpolate(image.to(torch.complex64), 100, 0.48, -1)
    assert single.dtype == torch.complex64
    torch.testing.assert_close(single.to(torch.complex128), exact, atol=2e-6, rtol=0)
