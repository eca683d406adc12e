import pytest
import torch

from chpnet_stream.physics.classical import ConjugateGradient
from chpnet_stream.physics.narrow_gradient import NarrowGradient
from chpnet_stream.physics.narrow_sense import NarrowSense
from chpnet_stream.physics.operators import ColumnSense
from tests.physics.cases import complex_noise, make_case

WEIGHTS = torch.tensor([1.0, 0, 0, 1, 0, 0.5, 0.25, 0, 1, 0, 1, 0], dtype=torch.float64)


def maps_of(coils=4, lines=12, columns=9):
    maps = complex_noise(coils, lines, columns, seed=1)
    maps = maps / maps.abs().square().sum(0).sqrt()
    maps[:, :, :2] = 0  # beside the object
    maps[:, :, 4] = 0  # and in it
    return maps


def test_nothing_left_out_is_the_operator_itself():
    maps, image = maps_of(), complex_noise(9, 12, seed=2)
    narrow = NarrowSense(maps, WEIGHTS, 0.0)
    expected = ColumnSense(maps, WEIGHTS).normal_columns(image)
    torch.testing.assert_close(narrow.normal_columns(image), expected)
    assert narrow.counts == (6, 6, 6, 6)


def test_columns_with_fewer_coils_get_fewer():
    maps = maps_of()
    maps[1:, :, 5:7] = 0
    maps[3, :, 7] = 2 * maps[1, :, 7]  # two coils that see the same
    image = complex_noise(9, 12, seed=2)
    narrow = NarrowSense(maps, WEIGHTS, 1e-9)
    assert narrow.counts == (6, 4, 4, 3)
    expected = ColumnSense(maps, WEIGHTS).normal_columns(image)
    torch.testing.assert_close(narrow.normal_columns(image), expected)
    assert float(narrow.rest.abs().max()) < 1e-9


def test_weights_are_changed_in_a_copy():
    maps, image = maps_of(), complex_noise(9, 12, seed=2)
    first = NarrowSense(maps, torch.ones_like(WEIGHTS), 0.3)
    second = first.weighted(WEIGHTS)
    torch.testing.assert_close(
        second.normal_columns(image), NarrowSense(maps, WEIGHTS, 0.3).normal_columns(image)
    )
    assert second.maps is first.maps
    # Of every line: all that the coils see, whichever were left out.
    whole = ColumnSense(maps, torch.ones_like(WEIGHTS)).normal_columns(image)
    torch.testing.assert_close(first.normal_columns(image), whole)


@pytest.mark.parametrize(("tolerance", "error"), [(1e-3, 2e-3), (1e-5, 2e-5)])
def test_what_is_left_out_hardly_counts(tolerance, error):
    case = make_case((48, 40), coils=8, acceleration=3, calibration=12)
    exact = ColumnSense(case.maps, case.mask)
    narrow = NarrowSense(case.maps, case.mask, tolerance)
    image = case.image.T.contiguous()
    found, expected = narrow.normal_columns(image), exact.normal_columns(image)
    assert float((found - expected).norm()) < error * float(expected.norm())
    assert sum(narrow.counts) < 8 * narrow.counts[0]
    plain = NarrowSense(case.maps, case.mask, tolerance)
    plain.extra = 0 * plain.extra
    worse = plain.normal_columns(image)
    assert float((worse - expected).norm()) > float((found - expected).norm())


def test_images_without_columns_of_an_object_are_zero():
    narrow = NarrowSense(torch.zeros(3, 12, 5, dtype=torch.complex64), WEIGHTS.float())
    assert not narrow.normal_columns(torch.ones(5, 12, dtype=torch.complex64)).any()


def test_other_columns_stay_where_they_are_asked_to():
    maps = maps_of()
    narrow = NarrowSense(maps, WEIGHTS)
    image = complex_noise(9, 12, seed=3)
    assert torch.equal(narrow.unpack(narrow.pack(image), image), image)
    outside = narrow.unpack(narrow.pack(image))[[0, 1, 4]]
    assert not outside.any()


@pytest.mark.parametrize("weight", [0.05, "image"])
@pytest.mark.parametrize("begun", [False, True])
def test_iterations_are_those_of_the_general_solver(weight, begun):
    maps = maps_of()
    narrow, exact = NarrowSense(maps, WEIGHTS, 0.0), ColumnSense(maps, WEIGHTS)
    # Where there are no maps there is nothing to solve, and both must be asked the same.
    rhs, start = (narrow.unpack(narrow.pack(complex_noise(9, 12, seed=s))) for s in (4, 5))
    if weight == "image":
        whole = 0.01 + torch.rand(9, 12, generator=torch.Generator().manual_seed(6)).double()
        pairs = narrow.pack(whole)[..., None].expand(-1, -1, 2).contiguous()
    else:
        whole = pairs = weight
    expected = ConjugateGradient(
        exact.normal_columns, rhs, regularization=whole, start=start if begun else None
    )
    first = narrow.pack(start) if begun else None
    found = NarrowGradient(narrow, narrow.pack(rhs), pairs, first)
    seen = []
    for step in range(5):
        expected.step()
        found.step()
        seen.append((found.x, found.x.clone()))
        torch.testing.assert_close(narrow.unpack(found.x), expected.x)
        if step == 2:  # converged estimates stay where they are
            assert float(found.x.norm()) > 0
    for image, copy in seen:
        assert torch.equal(image, copy)
    before = found.x.clone()
    expected.step()
    found.step(last=True)
    torch.testing.assert_close(narrow.unpack(found.x), expected.x)
    assert not torch.equal(found.x, before)


def test_nothing_to_solve_gives_zeros():
    narrow = NarrowSense(maps_of(), WEIGHTS)
    solver = NarrowGradient(narrow, torch.zeros(6, 12, dtype=torch.complex128), 0.1)
    for _ in range(3):
        solver.step()
    assert not solver.x.any()
