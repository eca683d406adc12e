"""Small problems in parallel imaging for the tests of physics, network and engines."""

from dataclasses import dataclass

import torch
from torch import Tensor

from chpnet_stream.physics.fourier import fft
from chpnet_stream.physics.sampling import equispaced_mask
from chpnet_stream.simulation.coils import loop_coil_maps


def complex_noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex128) -> Tensor:
    """White complex noise of unit variance."""
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def dot(a: Tensor, b: Tensor) -> complex:
    """Inner product of two tensors, antilinear in the first."""
    return complex(torch.vdot(a.flatten(), b.flatten()))


def grid(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Coordinates `y 1` and `1 x` from -1 to 1, float64."""
    y, x = (torch.linspace(-1, 1, size, dtype=torch.float64) for size in shape)
    return y[:, None], x[None, :]


def phantom(shape: tuple[int, int], edge: float = 60.0) -> Tensor:
    """Magnitude `y x` of a few ellipses with edges about ``2 / edge`` of the field wide."""
    y, x = grid(shape)
    image = torch.zeros(shape, dtype=torch.float64)
    for value, cy, cx, a, b in (
        (1.0, 0.0, 0.0, 0.8, 0.7),
        (-0.5, 0.2, 0.1, 0.3, 0.2),
        (0.4, -0.3, -0.2, 0.1, 0.25),
        (0.6, 0.1, -0.4, 0.06, 0.06),
    ):
        radius = torch.sqrt(((y - cy) / a) ** 2 + ((x - cx) / b) ** 2)
        image = image + value * torch.sigmoid(edge * (1 - radius))
    return image


def smooth_phase(shape: tuple[int, int]) -> Tensor:
    """Unit phase factors `y x` that vary by about a radian."""
    y, x = grid(shape)
    return torch.exp(1j * (y + 0.5 * x * x - 0.4 * y * x + 0.3 * y * y))


def unit_maps(coils: int, shape: tuple[int, int]) -> Tensor:
    """Simulated sensitivities `coils y x` with unit root sum of squares, complex128."""
    maps = torch.from_numpy(loop_coil_maps(coils, shape)).to(torch.complex128)
    return maps / maps.abs().square().sum(0).sqrt()


@dataclass
class Case:
    """A slice: truth `y x`, maps and full k-space `coils ...`, mask `ky`, noise per real part."""

    image: Tensor
    maps: Tensor
    kspace: Tensor
    mask: Tensor
    sigma: float

    @property
    def measured(self) -> Tensor:
        """K-space with zeros where nothing was measured."""
        return self.kspace * self.mask[:, None]


def make_case(
    shape: tuple[int, int] = (64, 60),
    coils: int = 6,
    acceleration: int = 2,
    calibration: int = 16,
    sigma: float = 0.0,
) -> Case:
    """A phantom with a smooth phase seen by a loop array, float64."""
    image = phantom(shape) * smooth_phase(shape)
    maps = unit_maps(coils, shape)
    noise = 2**0.5 * sigma * complex_noise(coils, *shape, seed=5)
    mask = equispaced_mask(shape[0], acceleration, calibration).double()
    return Case(image, maps, fft(maps * image) + noise, mask, sigma)


def psnr(found: Tensor, truth: Tensor) -> float:
    """PSNR of magnitudes in dB, the truth's maximum as the peak."""
    error = (found.abs() - truth.abs()).square().mean()
    return float(10 * torch.log10(truth.abs().max().square() / error))
