import numpy as np
import pytest
import torch
from pydantic import ValidationError

from chpnet_stream.physics.coils import root_sum_of_squares
from chpnet_stream.physics.operators import ColumnSense
from chpnet_stream.physics.sampling import calibration_range
from chpnet_training.simulation import SimulationConfig, draw_image, draw_mask, simulate_samples
from tests.physics.cases import phantom
from tests.training.tiny import SIMULATION

PICTURE = phantom((80, 64)).clamp(0, 1).numpy()


def config(**changes) -> SimulationConfig:
    return SimulationConfig(**(SIMULATION | changes))


def draw(number: int, **changes):
    return simulate_samples(PICTURE, config(**changes), np.random.default_rng(number))


def test_a_sample_is_determined_by_its_generator():
    one, same, other = draw(1)[0], draw(1)[0], draw(2)[0]
    for name in ("maps", "mask", "adjoint", "target"):
        assert torch.equal(getattr(one, name), getattr(same, name)), name
    assert one.noise == same.noise
    assert one.noise != other.noise


def test_random_state_elsewhere_does_not_matter():
    one = draw(1)[0]
    torch.manual_seed(99)
    np.random.seed(99)
    assert torch.equal(one.adjoint, draw(1)[0].adjoint)


@pytest.mark.parametrize("number", range(12))
def test_every_range_is_respected(number):
    ranges = config(strips=2, matrix_y=(32, 56), coils=(3, 7), noise_error=0)
    samples = simulate_samples(PICTURE, ranges, np.random.default_rng(number))
    assert len(samples) == 2
    for sample in samples:
        coils, lines, columns = sample.maps.shape
        assert 1 <= coils <= 4
        assert 32 <= lines <= 56
        assert lines % 8 == 0
        assert columns == 24
        assert sample.mask.shape == (lines,)
        assert set(sample.mask.tolist()) <= {0.0, 1.0}
        assert sample.mask[list(calibration_range(lines, 12))].all()
        assert 0.01 <= sample.noise <= 0.03
        assert sample.adjoint.shape == sample.target.shape == (lines, columns)
        assert sample.adjoint.dtype == sample.target.dtype == torch.complex64
        assert torch.isfinite(sample.adjoint.abs()).all()
        norm = root_sum_of_squares(sample.maps)
        assert float((norm - norm.round()).abs().max()) < 1e-4
    assert samples[0].noise == samples[1].noise


def test_the_student_is_told_a_noise_level_that_is_a_little_wrong():
    told = [draw(n, noise=(0.02, 0.02), noise_error=0.3)[0].noise for n in range(60)]
    logarithms = np.log(np.array(told) / 0.02)
    assert abs(logarithms.mean()) < 0.12
    assert logarithms.std() == pytest.approx(0.3, rel=0.35)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("matrix_y", (40, 32)),
        ("noise", (0.0, 0.1)),
        ("coils", (0, 4)),
        ("calibration", (20, 16)),
        ("strip", 64),
        ("accelerations", ()),
    ],
)
def test_impossible_ranges_are_refused(setting, value):
    with pytest.raises(ValidationError, match=setting):
        config(**{setting: value})


def test_the_narrowest_slice_holds_a_strip():
    """Columns are drawn in steps of `multiple`, downwards from where matrix_x begins."""
    narrow = config(matrix_x=(44, 44), strip=40, multiple=8)
    for number in range(4):
        (sample,) = simulate_samples(PICTURE, narrow, np.random.default_rng(number))
        assert sample.maps.shape[2] == 40
    with pytest.raises(ValidationError, match="strip of at most 40 columns"):
        config(matrix_x=(44, 44), strip=44, multiple=8)


def test_full_sampling_without_noise_has_the_target_as_adjoint():
    sample = draw(3, accelerations=(1,), random_lines=0, partial_fourier=0, noise=(1e-9, 1e-9))[0]
    assert sample.mask.all()
    torch.testing.assert_close(sample.adjoint, sample.target, atol=1e-5, rtol=0)


def test_adjoint_is_that_of_the_target_up_to_what_the_maps_leave_out():
    """A*y = A*A target + A* (what is outside the span of the estimated maps)."""
    sample = draw(4, noise=(1e-9, 1e-9), partial_fourier=0)[0]
    again = ColumnSense(sample.maps, sample.mask).normal(sample.target)
    assert float((again - sample.adjoint).norm() / sample.adjoint.norm()) < 0.1
    aliased = float((sample.adjoint - sample.target).norm() / sample.target.norm())
    assert aliased > 0.1


def test_noise_of_the_adjoint_is_the_stated_one():
    """Compression is unitary and the maps have unit norm: the noise keeps its size."""
    options = {"accelerations": (1,), "random_lines": 0, "partial_fourier": 0, "strips": 3}
    (noisy, *more) = draw(5, noise=(0.05, 0.05), **options)
    errors = []
    for sample in (noisy, *more):
        inside = root_sum_of_squares(sample.maps) > 0.5
        errors.append((sample.adjoint - sample.target)[inside])
    error = torch.cat(errors)
    assert error.numel() > 500
    for part in (error.real, error.imag):
        assert float(part.std()) == pytest.approx(0.05, rel=0.08)


@pytest.mark.parametrize("number", range(6))
def test_unit_of_the_image(number):
    """The object has the 99th percentile of its magnitude at one, whatever is drawn."""
    image = draw_image(PICTURE, (48, 40), config(), np.random.default_rng(number))
    assert image.shape == (48, 40)
    assert float(torch.quantile(image.abs().flatten()[::4], 0.99)) == pytest.approx(1, abs=1e-4)
    assert float(image.angle().std()) > 0.05
    target = draw(number)[0].target
    assert 0.2 < float(target.abs().max()) < 6


def test_masks():
    generator = np.random.default_rng(0)
    always = config(random_lines=0, partial_fourier=0, accelerations=(4,))
    for _ in range(10):
        mask = draw_mask(64, 16, always, generator)
        outside = mask.clone()
        outside[list(calibration_range(64, 16))] = 0
        lines = torch.nonzero(outside).flatten()
        assert len({int(line) % 4 for line in lines}) == 1
        assert 12 <= len(lines) <= 13
    partial = config(random_lines=0, partial_fourier=1, accelerations=(1,))
    for _ in range(10):
        mask = draw_mask(64, 16, partial, generator)
        assert 0.6 * 64 <= mask.sum() <= 0.96 * 64
        assert mask[list(calibration_range(64, 16))].all()
        assert (mask.diff() != 0).sum() == 1  # one side is missing
    random = config(random_lines=1, partial_fourier=0, accelerations=(4,))
    first, second = (draw_mask(64, 12, random, generator) for _ in range(2))
    assert first.sum() == second.sum() == round(64 / 3)
    assert not torch.equal(first, second)
