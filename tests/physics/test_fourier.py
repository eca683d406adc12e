import numpy as np
import pytest
import torch

from chpnet_stream.physics.fourier import fft, ifft, resize_centred
from tests.physics.cases import complex_noise, dot

SIZES = [(8, 8), (7, 9), (12, 5), (1, 6)]


def dft_matrix(n: int) -> torch.Tensor:
    """The centred orthonormal transform, written down from its definition."""
    index = np.arange(n) - n // 2
    return torch.from_numpy(np.exp(-2j * np.pi * np.outer(index, index) / n) / np.sqrt(n))


@pytest.mark.parametrize("shape", SIZES)
def test_transform_is_the_matrix_of_its_definition(shape):
    image = complex_noise(3, *shape)
    expected = dft_matrix(shape[0]) @ image @ dft_matrix(shape[1]).mT
    torch.testing.assert_close(fft(image), expected)
    torch.testing.assert_close(fft(image, -2), dft_matrix(shape[0]) @ image)
    torch.testing.assert_close(fft(image, (-1,)), image @ dft_matrix(shape[1]).mT)


@pytest.mark.parametrize("shape", SIZES)
def test_inverse_is_inverse_and_adjoint(shape):
    a, b = complex_noise(2, *shape, seed=1), complex_noise(2, *shape, seed=2)
    torch.testing.assert_close(ifft(fft(a)), a)
    assert dot(fft(a), b) == pytest.approx(dot(a, ifft(b)), abs=1e-12)
    assert float(fft(a).norm()) == pytest.approx(float(a.norm()))


def test_single_precision_is_kept():
    image = complex_noise(64, 60, dtype=torch.complex64)
    assert fft(image).dtype == torch.complex64
    exact = fft(image.to(torch.complex128))
    assert float((fft(image) - exact).abs().max() / exact.abs().max()) < 1e-6


@pytest.mark.parametrize("n", [64, 65])
def test_gaussian_becomes_the_analytic_gaussian(n):
    """exp(-pi (x/w)^2) has the transform w exp(-pi (w k)^2)."""
    width = 8.0
    x = torch.arange(n, dtype=torch.float64) - n // 2
    image = torch.exp(-torch.pi * (x / width) ** 2)
    expected = width / n**0.5 * torch.exp(-torch.pi * (width * x / n) ** 2)
    torch.testing.assert_close(fft(image, 0), expected.to(torch.complex128), atol=1e-10, rtol=0)


@pytest.mark.parametrize("n", [16, 15])
def test_a_shift_is_a_linear_phase(n):
    image = complex_noise(n)
    k = torch.arange(n, dtype=torch.float64) - n // 2
    expected = fft(image, 0) * torch.exp(-2j * torch.pi * 3 * k / n)
    torch.testing.assert_close(fft(image.roll(3), 0), expected)


@pytest.mark.parametrize("n", [6, 7])
def test_centres_are_at_half_the_size(n):
    constant = fft(torch.ones(n, n, dtype=torch.float64))
    assert constant[n // 2, n // 2].real == pytest.approx(n)
    constant[n // 2, n // 2] = 0
    assert float(constant.abs().max()) < 1e-12
    point = torch.zeros(n, n, dtype=torch.float64)
    point[n // 2, n // 2] = 1
    torch.testing.assert_close(fft(point), torch.full((n, n), 1 / n, dtype=torch.complex128))


def test_gradient():
    image = complex_noise(4, 5).requires_grad_()
    assert torch.autograd.gradcheck(fft, image)
    assert torch.autograd.gradcheck(ifft, image)


@pytest.mark.parametrize("old", [4, 5, 8, 9])
@pytest.mark.parametrize("new", [3, 4, 5, 8, 11])
def test_resize_keeps_the_centre(old, new):
    x = torch.arange(1, old + 1)
    resized = resize_centred(x, (new,))
    assert len(resized) == new
    assert resized[new // 2] == x[old // 2]
    kept = resized[resized > 0]
    assert len(kept) == min(old, new)
    assert (kept.diff() == 1).all()


def test_resize_of_some_axes_only():
    x = complex_noise(2, 3, 8, 7)
    assert resize_centred(x, (5, 10)).shape == (2, 3, 5, 10)
    torch.testing.assert_close(resize_centred(resize_centred(x, (12, 9)), (8, 7)), x)
    assert resize_centred(x, (8, 7)).data_ptr() == x.data_ptr()
