import numpy as np
import pytest
import torch

from chpnet_stream.physics.classical import (
    cg_sense,
    conjugate_gradient,
    zero_filled_rss,
)
from chpnet_stream.physics.coils import combine, espirit
from chpnet_stream.physics.fourier import ifft
from chpnet_stream.physics.operators import ColumnSense, SenseOperator, apply_gram, sense_gram
from chpnet_training.bart import bart_pics
from tests.physics.cases import Case, complex_noise, make_case, psnr


def normal_of(case: Case):
    return SenseOperator(case.maps, case.mask[:, None]).normal


def adjoint_of(case: Case) -> torch.Tensor:
    return SenseOperator(case.maps, case.mask[:, None]).adjoint(case.kspace)


@pytest.mark.parametrize("regularization", [0.05, 1.0])
@pytest.mark.parametrize("shape", [(6, 5), (5, 8)])
def test_solution_is_that_of_a_dense_solver(shape, regularization):
    maps = complex_noise(3, *shape, seed=1)
    gram = sense_gram(maps, torch.tensor([1.0, 0, 1, 1, 0, 1][: shape[0]], dtype=torch.float64))
    rhs = complex_noise(*shape, seed=2)
    system = gram + regularization * torch.eye(shape[0], dtype=torch.complex128)
    expected = torch.linalg.solve(system, rhs.mT.unsqueeze(-1)).squeeze(-1).mT
    found = conjugate_gradient(
        lambda x: apply_gram(gram, x), rhs, regularization=regularization, iterations=60
    )
    torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-8)


def test_start_changes_the_way_and_not_the_end():
    case = make_case(shape=(16, 12), sigma=0.01)
    rhs = adjoint_of(case)
    options = {"regularization": 0.05, "iterations": 60}
    cold = conjugate_gradient(normal_of(case), rhs, **options)
    warm = conjugate_gradient(normal_of(case), rhs, start=complex_noise(16, 12), **options)
    torch.testing.assert_close(cold, warm, atol=1e-8, rtol=1e-8)
    again = conjugate_gradient(normal_of(case), rhs, start=cold, regularization=0.05, iterations=1)
    torch.testing.assert_close(again, cold, atol=1e-8, rtol=1e-8)


def test_every_iteration_lowers_the_objective():
    case = make_case(shape=(24, 20), acceleration=3, calibration=6, sigma=0.02)
    normal, rhs = normal_of(case), adjoint_of(case)

    def objective(x):
        return float(((normal(x) + 0.01 * x) * x.conj() - 2 * rhs * x.conj()).real.sum())

    values = [
        objective(conjugate_gradient(normal, rhs, regularization=0.01, iterations=n))
        for n in range(8)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] == 0


def test_regularization_may_vary_in_space():
    rhs = complex_noise(6, 5)
    weight = torch.linspace(0.5, 2, 30, dtype=torch.float64).reshape(6, 5)
    found = conjugate_gradient(lambda x: x, rhs, regularization=weight, iterations=40)
    torch.testing.assert_close(found, rhs / (1 + weight), atol=1e-9, rtol=1e-9)


def test_entries_of_a_batch_do_not_touch_each_other():
    """An easy, an empty and a hard entry: each as if it were alone, whatever the others need."""
    hard, easy = make_case(acceleration=4, calibration=4, sigma=0.02), make_case(acceleration=1)
    maps = torch.stack([easy.maps, easy.maps, hard.maps])
    mask = torch.stack([easy.mask, easy.mask, hard.mask])
    rhs = torch.stack([adjoint_of(easy), torch.zeros_like(easy.image), adjoint_of(hard)])
    together = conjugate_gradient(ColumnSense(maps, mask).normal, rhs, iterations=25)
    assert torch.isfinite(together.abs()).all()
    for i in range(3):
        alone = conjugate_gradient(ColumnSense(maps[i], mask[i]).normal, rhs[i], iterations=25)
        torch.testing.assert_close(together[i], alone, atol=1e-10, rtol=1e-10)


def test_tolerance_ends_the_iterations():
    case = make_case(sigma=0.01)
    calls = 0

    def counting(x):
        nonlocal calls
        calls += 1
        return normal_of(case)(x)

    x = cg_sense(counting, adjoint_of(case), regularization=0.1, iterations=100, tolerance=1e-3)
    assert 2 < calls < 20
    residual = adjoint_of(case) - normal_of(case)(x) - 0.1 * x
    assert float(residual.norm() / adjoint_of(case).norm()) <= 1e-3


def test_zero_data_gives_a_zero_image():
    case = make_case()
    assert not cg_sense(normal_of(case), torch.zeros_like(case.image)).any()


@pytest.mark.parametrize("shape", [(32, 30), (33, 31)])
def test_full_sampling_and_exact_maps_give_the_image_back(shape):
    case = make_case(shape=shape, acceleration=1)
    found = cg_sense(normal_of(case), adjoint_of(case), regularization=0.0)
    torch.testing.assert_close(found, case.image, atol=1e-10, rtol=0)


def test_undersampling_without_noise_is_undone():
    case = make_case(acceleration=3, coils=8)
    found = cg_sense(
        normal_of(case), adjoint_of(case), regularization=1e-6, iterations=60, tolerance=1e-7
    )
    zero_filled = adjoint_of(case)
    assert psnr(found, case.image) > 50
    assert psnr(found, case.image) > psnr(zero_filled, case.image) + 20


def test_float32_and_float64_agree():
    case = make_case(acceleration=3, sigma=0.01)
    exact = cg_sense(normal_of(case), adjoint_of(case))
    single = SenseOperator(case.maps.to(torch.complex64), case.mask.float()[:, None])
    found = cg_sense(single.normal, single.adjoint(case.kspace.to(torch.complex64)))
    assert found.dtype == torch.complex64
    assert float((found - exact).abs().max() / exact.abs().max()) < 1e-4


def test_root_of_sum_of_squares_is_the_magnitude_for_unit_maps():
    case = make_case()
    torch.testing.assert_close(zero_filled_rss(case.kspace), case.image.abs())


@pytest.mark.usefixtures("bart")
@pytest.mark.parametrize("acceleration", [2, 4])
def test_cg_sense_is_as_good_as_that_of_bart(acceleration):
    """The same k-space, the same estimated maps, the same number of iterations."""
    case = make_case(shape=(96, 80), coils=8, acceleration=acceleration, sigma=0.01)
    calibration = case.kspace[:, 40:56, 28:52].to(torch.complex64)
    maps = espirit(calibration, (96, 80)).maps
    measured = case.measured.to(torch.complex64)
    operator = SenseOperator(maps, case.mask.float()[:, None])
    ours = cg_sense(operator.normal, operator.adjoint(measured), regularization=0.01, iterations=30)
    theirs, _ = bart_pics(measured.numpy(), maps.numpy(), ["-S", "-l2", "-r", "0.01", "-i", "30"])
    truth = combine(ifft(case.kspace).to(torch.complex64), maps)
    reference = psnr(torch.from_numpy(np.abs(theirs)), truth)
    assert reference > 25
    assert psnr(ours, truth) == pytest.approx(reference, abs=0.1)
