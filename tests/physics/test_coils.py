import pytest
import torch
from scipy import ndimage

from chpnet_stream.physics.coils import (
    combine,
    compression_matrix,
    espirit,
    root_sum_of_squares,
)
from chpnet_stream.physics.fourier import ifft
from chpnet_training.bart import bart_espirit
from tests.physics.cases import complex_noise, make_case, phantom

SHAPE = (90, 85)


def noisy_case(sigma: float = 0.005):
    return make_case(shape=SHAPE, coils=6, sigma=sigma)


def calibration_of(kspace: torch.Tensor, lines: int = 24) -> torch.Tensor:
    y, x = (size // 2 - lines // 2 for size in kspace.shape[-2:])
    return kspace[:, y : y + lines, x : x + lines].to(torch.complex64)


def agreement(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """|<a, b>| of unit vectors in each pixel: one where they are equal up to a phase."""
    return (a.conj() * b).sum(0).abs()


def unexplained(images: torch.Tensor, maps: torch.Tensor, where: torch.Tensor) -> float:
    """Share of the coil images' energy that no image seen through the maps can have."""
    total = images.abs().square().sum(0)
    return float((total - combine(images, maps).abs().square())[where].sum() / total[where].sum())


def rim(region: torch.Tensor, width: int = 2) -> torch.Tensor:
    """The pixels of a region next to its border."""
    inner = ndimage.binary_erosion(region.numpy(), iterations=width)
    return region & ~torch.from_numpy(inner)


@pytest.mark.parametrize("coarse", [1, 2])
def test_simulated_maps_are_recovered_up_to_phase(coarse):
    case = noisy_case()
    found = espirit(calibration_of(case.kspace), SHAPE, coarse=coarse)
    object_ = phantom(SHAPE) > 0.2
    assert (found.support[object_] == 1).all()
    assert float(agreement(found.maps, case.maps.to(torch.complex64))[object_].min()) > 0.995
    images = (case.maps * case.image).to(torch.complex64)
    assert unexplained(images, found.maps, object_) < 2e-4


@pytest.mark.parametrize("coarse", [1, 2])
def test_maps_are_unit_inside_the_support_and_zero_outside(coarse):
    found = espirit(calibration_of(noisy_case().kspace), SHAPE, coarse=coarse)
    norm = root_sum_of_squares(found.maps)
    inside = found.support > 0
    assert 0.3 < float(inside.float().mean()) < 0.95
    torch.testing.assert_close(norm[inside], torch.ones_like(norm[inside]), atol=1e-5, rtol=0)
    assert not found.maps[:, ~inside].any()
    assert float(found.support.min()) == 0
    assert float(found.support.max()) == 1
    # air far from the object has no signal
    y, x = SHAPE
    assert not inside[:3, :3].any()
    assert not inside[y - 3 :, x - 3 :].any()


def test_phase_is_smooth():
    """Neighbouring pixels of the object have nearly the same maps, phase included."""
    found = espirit(calibration_of(noisy_case().kspace), SHAPE)
    object_ = phantom(SHAPE) > 0.2
    both = object_[:, 1:] & object_[:, :-1]
    step = (found.maps[:, :, 1:].conj() * found.maps[:, :, :-1]).sum(0)
    assert float(step.real[both].min()) > 0.95


@pytest.mark.parametrize("shape", [SHAPE, (64, 48), (33, 120)])
@pytest.mark.parametrize("sigma", [0.0, 0.02])
def test_interpolated_maps_are_as_good_as_computed_ones(shape, sigma):
    """Every second pixel loses less than 1e-4 of the energy, at the object's rim too."""
    case = make_case(shape=shape, coils=8, sigma=sigma)
    calibration = calibration_of(case.kspace)
    every = espirit(calibration, shape, coarse=1)
    second = espirit(calibration, shape, coarse=2)
    images = (case.maps * case.image).to(torch.complex64)
    object_ = phantom(shape) > 0.1
    for where in (object_, rim(object_)):
        lost = unexplained(images, second.maps, where) - unexplained(images, every.maps, where)
        assert lost < 1e-4
        assert float(agreement(every.maps, second.maps)[where].min()) > 0.9995
        difference = (every.maps - second.maps).abs().square().sum(0).sqrt()
        assert float(difference[where].max()) < 0.02
    changed = (every.support > 0.5) != (second.support > 0.5)
    assert float(changed.float().mean()) < 0.005


def test_even_pixels_are_computed_exactly():
    calibration = calibration_of(noisy_case().kspace)
    every = espirit(calibration, SHAPE, coarse=1)
    second = espirit(calibration, SHAPE, coarse=2)
    inside = (every.support > 0)[::2, ::2]
    torch.testing.assert_close(
        second.maps[:, ::2, ::2][:, inside], every.maps[:, ::2, ::2][:, inside], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("coarse", [1, 2, 3])
@pytest.mark.parametrize("columns", [slice(0, 20), slice(31, 62), slice(84, 85)])
def test_some_columns_are_those_of_the_whole(coarse, columns):
    calibration = calibration_of(noisy_case().kspace)
    whole = espirit(calibration, SHAPE, coarse=coarse)
    part = espirit(calibration, SHAPE, columns=columns, coarse=coarse)
    torch.testing.assert_close(part.support, whole.support[:, columns], atol=1e-5, rtol=0)
    torch.testing.assert_close(part.maps, whole.maps[:, :, columns], atol=1e-3, rtol=0)


def test_units_and_receiver_phase_do_not_matter():
    calibration = calibration_of(noisy_case().kspace)
    one = espirit(calibration, SHAPE)
    other = espirit(calibration * (3e6 * torch.exp(torch.tensor(0.7j))), SHAPE)
    torch.testing.assert_close(one.support, other.support, atol=1e-3, rtol=0)
    object_ = phantom(SHAPE) > 0.2
    assert float(agreement(one.maps, other.maps)[object_].min()) > 0.9999


def test_one_coil():
    case = noisy_case()
    image = case.kspace[:1]
    found = espirit(calibration_of(image), SHAPE)
    object_ = phantom(SHAPE) > 0.2
    torch.testing.assert_close(found.maps.abs()[0][object_], torch.ones(int(object_.sum())))


def test_calibration_that_cannot_do_is_refused():
    calibration = calibration_of(noisy_case().kspace)
    with pytest.raises(ValueError, match=r"at least 6 x 6 .* found 4 lines x 24"):
        espirit(calibration[:, :4], SHAPE)
    with pytest.raises(ValueError, match="found 24 lines x 5"):
        espirit(calibration[:, :, :5], SHAPE)
    with pytest.raises(ValueError, match="zeros only"):
        espirit(torch.zeros_like(calibration), SHAPE)
    with pytest.raises(ValueError, match="coarse=0"):
        espirit(calibration, SHAPE, coarse=0)
    assert espirit(calibration, SHAPE, kernel=4).maps.shape == (6, *SHAPE)


@pytest.mark.usefixtures("bart")
@pytest.mark.parametrize("coarse", [1, 2])
def test_maps_are_those_of_bart(coarse):
    """The same calibration region and kernel; one direction in coil space in each pixel."""
    case = noisy_case(sigma=0.01)
    ours = espirit(calibration_of(case.kspace), SHAPE, coarse=coarse)
    theirs = torch.from_numpy(bart_espirit(case.kspace.numpy(), calibration_lines=24))
    object_ = phantom(SHAPE) > 0.2
    assert float(agreement(ours.maps, theirs)[object_].min()) > 0.99
    support = root_sum_of_squares(theirs) > 0.5
    assert float(((ours.support > 0.5) == support).float().mean()) > 0.95


def test_compression_keeps_the_energy_asked_for():
    case = make_case(coils=8)
    data = case.kspace.to(torch.complex64)
    total = float(data.abs().square().sum())
    previous = 0
    for energy in (0.9, 0.99, 0.999):
        matrix = compression_matrix(data, energy=energy)
        kept = float(torch.einsum("vc,cyx->vyx", matrix, data).abs().square().sum())
        assert kept >= energy * total * (1 - 1e-5)
        if len(matrix) > 1:  # one virtual coil less would not have been enough
            fewer = torch.einsum("vc,cyx->vyx", matrix[:-1], data).abs().square().sum()
            assert float(fewer) < energy * total
        assert len(matrix) >= previous
        previous = len(matrix)
    assert 1 < previous <= 8


def test_the_phase_of_virtual_coils_is_fixed():
    """The largest entry of every row is real and positive, whatever the library gave it."""
    calibration = torch.randn(6, 24, 32, dtype=torch.complex128, generator=torch.Generator())
    calibration = calibration * torch.logspace(0, 1.5, 6)[:, None, None]
    matrix = compression_matrix(calibration, energy=1.0, limit=6)
    largest = matrix.gather(1, matrix.abs().argmax(dim=1, keepdim=True))
    assert float(largest.imag.abs().max()) < 1e-12
    assert float(largest.real.min()) > 0
    identity = torch.eye(6, dtype=matrix.dtype)
    torch.testing.assert_close(matrix @ matrix.mH, identity)


def test_compression_is_limited():
    data = complex_noise(8, 20, 20, dtype=torch.complex64)
    assert compression_matrix(data, energy=1.0, limit=3).shape == (3, 8)
    assert compression_matrix(data[:2], energy=1.0).shape == (2, 2)
    assert compression_matrix(torch.zeros(4, 5, 5, dtype=torch.complex64)).shape == (1, 4)


def test_compression_keeps_white_noise_white():
    matrix = compression_matrix(make_case(coils=8).kspace, energy=0.999)
    identity = torch.eye(len(matrix), dtype=matrix.dtype)
    torch.testing.assert_close(matrix @ matrix.mH, identity, atol=1e-10, rtol=0)
    noise = matrix @ complex_noise(8, 20000)
    torch.testing.assert_close(noise @ noise.mH / 20000, identity, atol=0.03, rtol=0)


def test_combination_recovers_the_image():
    case = make_case()
    torch.testing.assert_close(combine(ifft(case.kspace), case.maps), case.image)
    batch = combine(torch.stack([ifft(case.kspace)] * 2), torch.stack([case.maps] * 2))
    torch.testing.assert_close(batch[1], case.image)
