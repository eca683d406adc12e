"""The checks of a network image, by operators small enough to write down."""

import math

import pytest
import torch

from chpnet_stream.physics.operators import SenseOperator
from chpnet_stream.quality import check, residual


class Case:
    """Fully sampled or accelerated data of a smooth object, with a given noise."""

    def __init__(self, noise: float = 0.01, acceleration: int = 2) -> None:
        y, x = torch.meshgrid(*(torch.linspace(-1, 1, 32),) * 2, indexing="ij")
        self.image = torch.exp(-4 * (x**2 + y**2)) * torch.exp(1j * x).to(torch.complex64)
        maps = torch.stack([torch.exp(-((x - a) ** 2) + 1j * y * a) for a in (-1.0, 1.0)])
        maps = (maps / maps.abs().square().sum(0).sqrt()).to(torch.complex64)
        mask = (torch.arange(32) % acceleration == 0)[:, None]
        self.operator = SenseOperator(maps, mask)
        data = self.operator.forward(self.image)
        self.data = data + noise * mask * torch.randn_like(data)
        self.adjoint = self.operator.adjoint(self.data)
        self.energy = float(self.data.abs().square().sum())

    def residual(self, image: torch.Tensor) -> float:
        return residual(image, self.adjoint, self.operator.normal(image), self.energy)

    def check(self, image: torch.Tensor, baseline: torch.Tensor | None = None):
        base = self.image if baseline is None else baseline
        normal_images = [self.operator.normal(x) for x in (image, base)]
        return check(image, base, self.adjoint, *normal_images, self.energy)


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 3.0])
def test_the_residual_is_that_of_its_definition(scale: float) -> None:
    case = Case(noise=0.2)
    image = scale * (case.image + 0.1 * torch.randn_like(case.image))
    gap = case.operator.forward(image) - case.data
    expected = float(gap.abs().square().sum().sqrt()) / math.sqrt(case.energy)
    assert case.residual(image) == pytest.approx(expected, rel=1e-4)


def test_residual_of_nothing_and_of_nan() -> None:
    case = Case()
    assert case.residual(torch.zeros_like(case.image)) == pytest.approx(1.0)
    assert math.isnan(case.residual(case.image * torch.nan))
    assert residual(case.image, 0 * case.image, 0 * case.image, 0.0) == 0.0


def test_a_good_image_passes() -> None:
    case = Case()
    found = case.check(0.98 * case.image)
    assert found.problem is None
    assert found.detail == ""
    assert found.energy_ratio == pytest.approx(0.98**2, rel=1e-4)
    assert found.residual < found.baseline_residual + 0.03


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda x: x * torch.nan, "not finite"),
        (lambda x: torch.where(torch.rand(x.shape) < 1e-3, torch.inf, x), "not finite"),
        (lambda x: 10 * x, "wrong scale"),
        (lambda x: 1.5 * x, "wrong scale"),
        (lambda x: 1e20 * x, "wrong scale"),
        (lambda x: 0.5 * x, "misses the data"),
        (lambda x: 0 * x, "misses the data"),
        (lambda x: x.roll(6, 0), "misses the data"),
        (lambda x: 1j * x, "misses the data"),
        (lambda x: x.abs().square().mean().sqrt() * torch.randn_like(x), "misses the data"),
    ],
)
def test_a_bad_image_is_found_out(spoil, problem: str) -> None:
    case = Case()
    found = case.check(spoil(case.image))
    assert found.problem == problem
    assert found.detail


def test_what_has_nothing_to_do_with_the_data_never_passes() -> None:
    """However noisy the data, an image must explain more of them than an empty one."""
    for noise in (0.1, 1.0, 10.0):
        case = Case(noise)
        noisy = case.adjoint
        garbage = torch.randn_like(noisy) * noisy.abs().square().mean().sqrt()
        assert case.check(garbage, noisy).problem is not None


def test_a_network_that_takes_the_noise_away_passes() -> None:
    """Against a conventional image that is mostly noise, its energy is small, and right."""
    case = Case(noise=2.0)
    found = case.check(case.image, baseline=2 * case.adjoint)
    assert found.problem is None
    assert found.energy_ratio < 0.5


def test_nothing_measured_nothing_made() -> None:
    case = Case()
    case.adjoint, case.energy = 0 * case.adjoint, 0.0
    empty = torch.zeros_like(case.image)
    assert case.check(empty, empty).problem is None
    assert case.check(case.image, empty).problem == "wrong scale"
