"""The checks of a network image, by operators small enough to write down and known noise."""

import math
from pathlib import Path

import pytest
import torch

from chpnet_stream.network.card import ModelCard
from chpnet_stream.network.gate_limits import BANDS, GateLimits
from chpnet_stream.network.weights import find_model
from chpnet_stream.physics.classical import cg_sense
from chpnet_stream.physics.operators import SenseOperator
from chpnet_stream.quality import (
    BLOCK,
    MODEL_ERROR,
    Noise,
    Quality,
    _largest_block,
    check,
    problem_of,
    residual,
)

SIZE = 48


class Case:
    """Data of a smooth object, with a given noise (standard deviation of a complex sample)."""

    def __init__(
        self, noise: float = 0.01, acceleration: int = 2, kind: torch.dtype = torch.complex64
    ) -> None:
        y, x = torch.meshgrid(
            *(torch.linspace(-1, 1, SIZE, dtype=kind.to_real()),) * 2, indexing="ij"
        )
        self.image = torch.exp(-4 * (x**2 + y**2)) * torch.exp(1j * x).to(kind)
        maps = torch.stack(
            [
                torch.exp(-((x - a) ** 2) - (y - b) ** 2 + 1j * y * a)
                for a in (-1, 1)
                for b in (-1, 1)
            ]
        )
        maps = (maps / maps.abs().square().sum(0).sqrt()).to(kind)
        mask = torch.arange(SIZE) % acceleration == 0
        self.operator = SenseOperator(maps, mask[:, None])
        clean = self.operator.forward(self.image)
        self.data = clean + noise * mask[:, None] * torch.randn_like(clean)
        self.adjoint = self.operator.adjoint(self.data)
        self.energy = float(self.data.abs().square().sum())
        self.noise = Noise(noise**2, len(maps) * int(mask.sum()) * SIZE, 1 / acceleration)

    def solved(self, regularization: float = 1e-2, iterations: int = 6) -> torch.Tensor:
        return cg_sense(
            self.operator.normal,
            self.adjoint,
            regularization=regularization,
            iterations=iterations,
            tolerance=0.0,
        )

    def residual(self, image: torch.Tensor) -> float:
        return residual(image, self.adjoint, self.seen(image), self.energy)

    def seen(self, image: torch.Tensor) -> torch.Tensor:
        return self.operator.forward(image).abs().square().sum()

    def check(
        self,
        image: torch.Tensor,
        baseline: torch.Tensor | None = None,
        limits: GateLimits | None = None,
    ) -> Quality:
        base = self.solved() if baseline is None else baseline
        normal, seen = self.operator.normal(image), self.seen(base)
        return check(image, base, self.adjoint, normal, seen, self.energy, self.noise, limits)


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 3.0])
def test_the_residual_is_that_of_its_definition(scale: float) -> None:
    case = Case(noise=0.2)
    image = scale * (case.image + 0.1 * torch.randn_like(case.image))
    gap = case.operator.forward(image) - case.data
    expected = float(gap.abs().square().sum().sqrt()) / math.sqrt(case.energy)
    assert case.residual(image) == pytest.approx(expected, rel=1e-4)
    assert case.check(image).residual == pytest.approx(expected, rel=1e-4)


def test_residual_of_nothing_and_of_nan() -> None:
    case = Case()
    assert case.residual(torch.zeros_like(case.image)) == pytest.approx(1.0)
    assert math.isnan(case.residual(case.image * torch.nan))
    assert residual(case.image, 0 * case.image, torch.tensor(0.0), 0.0) == 0.0


@pytest.mark.parametrize("acceleration", [1, 2, 3])
@pytest.mark.parametrize("noise", [0.01, 1.0])
def test_noise_explains_what_the_module_says(acceleration: int, noise: float) -> None:
    """E |A x - y|^2 = N s for the truth, (N - P) s for the best fit: in float64."""
    case = Case(noise, acceleration, torch.complex128)
    samples, pixels = case.noise.samples, SIZE**2
    truth = case.residual(case.image) ** 2 * case.energy
    assert truth == pytest.approx(case.noise.energy, rel=5 / math.sqrt(samples))
    fit = case.solved(regularization=0.0, iterations=300)
    best = case.residual(fit) ** 2 * case.energy
    freedom = min(pixels, samples)
    assert best == pytest.approx(noise**2 * (samples - freedom), abs=5 * noise**2 * samples**0.5)
    found = case.check(case.image, fit)
    further = (truth - best) / (freedom * noise**2 + MODEL_ERROR**2 * case.energy)
    assert found.misfit == pytest.approx(math.sqrt(further), rel=1e-3)


def test_with_much_noise_the_truth_has_values_near_one() -> None:
    case = Case(noise=2.0)
    fit = case.solved(regularization=0.0, iterations=300)
    found = case.check(case.image, fit)
    assert found.misfit == pytest.approx(1.0, abs=0.1)
    assert found.inconsistency < 1
    assert 0.5 < found.local < 3
    assert all(0.3 < value < 2 for value in found.change)


@pytest.mark.parametrize("noise", [1e-4, 0.01, 0.1])
def test_a_good_image_passes(noise: float) -> None:
    case = Case(noise)
    found = case.check(0.998 * case.image)
    assert found.problem is None
    assert found.detail == found.mark == ""
    assert found.energy_ratio == pytest.approx(1, rel=0.3)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_units_do_not_matter(unit: float) -> None:
    torch.manual_seed(1)
    plain = Case(0.1)
    wanted = plain.check(1.1 * plain.image)
    scaled = Case(0.1)
    scaled.data = unit * plain.data
    scaled.adjoint = unit * plain.adjoint
    scaled.energy = unit**2 * plain.energy
    scaled.noise = Noise((0.1 * unit) ** 2, plain.noise.samples, plain.noise.share)
    found = scaled.check(unit * 1.1 * plain.image)
    for name in ("residual", "energy_ratio", "misfit", "brightness", "local", "change"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-3)


def disc(height: float, radius: float):
    y, x = torch.arange(SIZE)[:, None], torch.arange(SIZE)[None, :]
    return height * (((y - 20) ** 2 + (x - 28) ** 2) < radius**2)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda x: x * torch.nan, "not finite"),
        (lambda x: torch.where(torch.rand(x.shape) < 1e-3, torch.inf, x), "not finite"),
        (lambda x: 10 * x, "wrong scale"),
        (lambda x: 1.2 * x, "wrong scale"),
        (lambda x: 1e18 * x, "wrong scale"),
        (lambda x: 0.5 * x, "misses the data"),
        (lambda x: 0 * x, "misses the data"),
        (lambda x: x.roll(3, 0), "misses the data"),
        (lambda x: 1j * x, "misses the data"),
        (lambda x: x.abs().square().mean().sqrt() * torch.randn_like(x), "misses the data"),
        (lambda x: x + disc(0.2, 4) * torch.exp(1j * x.angle()), "unlike the conventional image"),
    ],
)
def test_a_bad_image_is_found_out(spoil, problem: str) -> None:
    case = Case()
    found = case.check(spoil(case.image), limits=find_model("chpnet-rt").card.gate)
    assert found.problem == problem
    assert found.detail


@pytest.mark.parametrize("size", [(8, 8), (48, 50), (13, 10), (65, 63), (5, 30), (1, 9)])
def test_every_pixel_is_in_a_block(size: tuple[int, int]) -> None:
    """The last ones too, where networks that pad their images are at their worst."""
    side = min(BLOCK, *size)
    for place in ((0, 0), (-1, -1), (0, -1), (-1, 0), (size[0] // 2, size[1] // 2)):
        gap = torch.zeros(size, dtype=torch.complex64)
        gap[place] = 2j
        assert float(_largest_block(gap)) == pytest.approx(4 / side**2)
    assert math.isnan(float(_largest_block(gap * torch.nan)))


def test_what_the_data_cannot_see_is_seen_in_the_change() -> None:
    """A pattern at lines that were not measured, of coils that are all alike."""
    case = Case(1e-3, acceleration=4)
    case.operator = SenseOperator(
        torch.ones((1, SIZE, SIZE), dtype=torch.complex64), case.operator.mask
    )
    case.data = case.operator.forward(case.image)
    case.adjoint = case.operator.adjoint(case.data)
    case.energy = float(case.data.abs().square().sum())
    y = torch.arange(SIZE)[:, None]
    base = case.solved()
    unseen = base + 0.5 * base.abs().max() * torch.cos(2 * math.pi * 9 * y / SIZE)
    found = case.check(unseen, base)
    assert found.misfit < 0.1
    assert found.local < 0.5
    assert max(found.change) == found.change[2]  # 9 of 24: a band of 1/4 to 1/2
    assert (BANDS[1], BANDS[2]) == (0.25, 0.5)
    strict = GateLimits(energy=100, change=(1.0, 1.0, 1.0, 1.0))
    kind, words = problem_of(found, strict)
    assert kind == "unlike the conventional image"
    assert "0.25 to 0.5 of the highest frequency" in words


def test_every_limit_is_kept() -> None:
    """Each of them refuses alone what the others let pass."""
    good = Quality(0.1, 0.1, 1.0, 0.5, 0.5, 0.5, (0.5, 0.5, 0.5, 0.5), 0.5, 0.5)
    limits = GateLimits(
        energy=1.5,
        misfit=1,
        brightness=1,
        local=1,
        overstated=1,
        change=(1, 1, 1, 1),
        inconsistency=1,
    )
    assert problem_of(good, limits) == (None, "")
    bad = {
        "energy_ratio": 2.0,
        "misfit": 1.1,
        "brightness": 1.1,
        "local": 1.1,
        "residual": 1.1,
        "overstated": 1.1,
    }
    for name, value in bad.items():
        for worse in (value, math.nan):
            assert problem_of(Quality(**{**vars(good), name: worse}), limits)[0] is not None
    for band in range(len(BANDS)):
        change = [0.5] * len(BANDS)
        change[band] = 1.1
        found = Quality(**{**vars(good), "change": tuple(change)})
        assert problem_of(found, limits)[0] == "unlike the conventional image"


def test_data_that_contradict_themselves_are_marked_not_refused() -> None:
    case = Case(1e-3, acceleration=1)
    spoilt = case.data * torch.exp(1j * torch.randn(SIZE))[:, None]
    case.adjoint = case.operator.adjoint(spoilt)
    found = case.check(case.solved(), limits=GateLimits(inconsistency=1.5))
    assert found.problem is None
    assert "misses the data" in found.mark
    assert "motion, spikes" in found.mark


def test_a_noise_scan_that_promises_too_much_is_found_out() -> None:
    case = Case(noise=0.1)
    found = case.check(case.image)
    assert found.problem is None
    assert found.overstated <= 1.1  # the residual of the best fit is the least there is
    case.noise = Noise(100 * case.noise.variance, case.noise.samples, case.noise.share)
    found = case.check(case.image)
    assert found.problem == "wrong noise level"
    assert found.overstated > 5
    one_coil = Noise(case.noise.variance, SIZE**2, 1.0)  # as many samples as pixels: nobody knows
    case.noise = one_coil
    assert case.check(case.image).overstated == 0.0


def test_what_has_nothing_to_do_with_the_data_never_passes() -> None:
    """However noisy the data, an image must explain more of them than an empty one."""
    for noise in (0.1, 1.0, 10.0):
        case = Case(noise)
        garbage = torch.randn_like(case.adjoint) * case.adjoint.abs().square().mean().sqrt()
        assert case.check(garbage).problem is not None


def test_a_network_that_takes_the_noise_away_passes() -> None:
    """Against a conventional image that is mostly noise, its energy is small, and right."""
    case = Case(noise=2.0)
    found = case.check(case.image)
    assert found.problem is None
    assert found.energy_ratio < 0.5


def test_nothing_measured_nothing_made() -> None:
    case = Case()
    case.adjoint, case.energy = 0 * case.adjoint, 0.0
    case.noise = Noise(0.0, 0, 0.0)
    empty = torch.zeros_like(case.image)
    assert case.check(empty, empty).problem is None
    assert case.check(case.image, empty).problem == "wrong scale"


def test_old_cards_have_wide_limits_and_new_ones_their_own(tmp_path: Path) -> None:
    shipped = find_model("chpnet-rt").card
    assert shipped.gate.slices >= 1000
    old = {k: v for k, v in shipped.model_dump(mode="json").items() if k != "gate"}
    wide = ModelCard.model_validate(old).gate
    assert wide == GateLimits()
    for name in ("misfit", "brightness", "local"):
        assert getattr(wide, name) > getattr(shipped.gate, name)
