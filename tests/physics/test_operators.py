import pytest
import torch

from chpnet_stream.physics.fourier import fft
from chpnet_stream.physics.operators import (
    ColumnSense,
    Downsampling,
    GramOperator,
    KspaceCentre,
    SenseOperator,
    apply_gram,
    sense_gram,
)
from tests.physics.cases import complex_noise, dot, make_case

SHAPES = [(8, 6), (9, 7), (7, 8)]


def weights(lines: int, seed: int = 3) -> torch.Tensor:
    """Line weights between 0 and 1, some exactly zero."""
    values = torch.rand(lines, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    values[1::3] = 0
    return values


def dense(apply, shape: tuple[int, int]) -> torch.Tensor:
    """Matrix of a linear map on images, column by column."""
    basis = torch.eye(shape[0] * shape[1], dtype=torch.complex128).reshape(-1, *shape)
    return torch.stack([apply(image).flatten() for image in basis], dim=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_sense_adjoint_by_dot_product(shape):
    operator = SenseOperator(complex_noise(3, *shape, seed=1), weights(shape[0])[:, None])
    x, y = complex_noise(*shape, seed=2), complex_noise(3, *shape, seed=4)
    assert dot(operator.forward(x), y) == pytest.approx(dot(x, operator.adjoint(y)), abs=1e-10)


def test_sense_forward_is_its_definition():
    case = make_case()
    operator = SenseOperator(case.maps, case.mask[:, None])
    torch.testing.assert_close(operator.forward(case.image), case.measured)
    assert not operator.forward(case.image)[:, case.mask == 0].any()


def test_sense_takes_two_dimensional_masks():
    mask = torch.rand(8, 6, generator=torch.Generator().manual_seed(1)) > 0.5
    operator = SenseOperator(complex_noise(3, 8, 6, seed=1), mask)
    x, y = complex_noise(8, 6, seed=2), complex_noise(3, 8, 6, seed=4)
    assert dot(operator.forward(x), y) == pytest.approx(dot(x, operator.adjoint(y)), abs=1e-10)
    assert not operator.forward(x)[:, ~mask].any()


def test_unit_maps_and_all_lines_make_the_identity():
    case = make_case(acceleration=1)
    operator = SenseOperator(case.maps, case.mask[:, None])
    torch.testing.assert_close(operator.adjoint(case.kspace), case.image)
    torch.testing.assert_close(operator.normal(case.image), case.image)


@pytest.mark.parametrize("shape", SHAPES)
def test_gram_is_the_dense_normal_matrix(shape):
    """Against S* F* diag(w) F S as plain matrices."""
    maps, w = complex_noise(2, *shape, seed=1), weights(shape[0])
    A = dense(SenseOperator(maps, w.sqrt()[:, None]).forward, shape)
    gram = sense_gram(maps, w)
    torch.testing.assert_close(dense(lambda x: apply_gram(gram, x), shape), A.mH @ A)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_normal_operators_agree(shape):
    maps, w = complex_noise(3, *shape, seed=1), weights(shape[0])
    x = complex_noise(*shape, seed=2)
    expected = SenseOperator(maps, w.sqrt()[:, None]).normal(x)
    torch.testing.assert_close(GramOperator(sense_gram(maps, w)).normal(x), expected)
    torch.testing.assert_close(ColumnSense(maps, w).normal(x), expected)
    torch.testing.assert_close(ColumnSense(maps, w).normal_columns(x.mT), expected.mT)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["gram", "column", "sense"])
def test_normal_operators_are_self_adjoint_and_positive(shape, kind):
    maps, w = complex_noise(3, *shape, seed=1), weights(shape[0])
    normal = {
        "gram": GramOperator(sense_gram(maps, w)).normal,
        "column": ColumnSense(maps, w).normal,
        "sense": SenseOperator(maps, w[:, None]).normal,
    }[kind]
    a, b = complex_noise(*shape, seed=2), complex_noise(*shape, seed=4)
    assert dot(normal(a), b) == pytest.approx(dot(a, normal(b)), abs=1e-10)
    energy = dot(a, normal(a))
    assert energy.real > 0
    assert abs(energy.imag) < 1e-10


def test_eigenvalues_of_unit_maps_are_between_zero_and_one():
    case = make_case(shape=(12, 4), coils=4, acceleration=3, calibration=4)
    gram = sense_gram(case.maps, case.mask)
    torch.testing.assert_close(gram, gram.mH)
    values = torch.linalg.eigvalsh(gram)
    assert float(values.min()) > -1e-12
    assert float(values.max()) <= 1 + 1e-12


@pytest.mark.parametrize("shape", SHAPES)
def test_batches_are_slices_side_by_side(shape):
    maps = complex_noise(4, 3, *shape, seed=1)
    w = torch.stack([weights(shape[0], seed) for seed in range(4)])
    x = complex_noise(4, *shape, seed=2)
    together = {
        "sense": SenseOperator(maps, w[:, None, :, None]).normal(x),
        "gram": apply_gram(sense_gram(maps, w), x),
        "column": ColumnSense(maps, w).normal(x),
    }
    for i in range(4):
        alone = {
            "sense": SenseOperator(maps[i], w[i][:, None]).normal(x[i]),
            "gram": apply_gram(sense_gram(maps[i], w[i]), x[i]),
            "column": ColumnSense(maps[i], w[i]).normal(x[i]),
        }
        for kind, image in alone.items():
            torch.testing.assert_close(together[kind][i], image)


def test_single_precision_agrees_with_double():
    case = make_case(sigma=0.01)
    exact = SenseOperator(case.maps, case.mask[:, None]).normal(case.image)
    maps, mask, image = (
        case.maps.to(torch.complex64),
        case.mask.float(),
        case.image.to(torch.complex64),
    )
    for found in (
        SenseOperator(maps, mask[:, None]).normal(image),
        apply_gram(sense_gram(maps, mask), image),
        ColumnSense(maps, mask).normal(image),
    ):
        assert found.dtype == torch.complex64
        assert float((found - exact).abs().max()) < 2e-6


def test_gradients():
    w = weights(4)
    maps = complex_noise(2, 4, 3, seed=1).requires_grad_()
    x = complex_noise(4, 3, seed=2).requires_grad_()
    for apply in (
        lambda maps, x: SenseOperator(maps, w[:, None]).forward(x),
        lambda maps, x: apply_gram(sense_gram(maps, w), x),
        lambda maps, x: ColumnSense(maps, w).normal(x),
    ):
        assert torch.autograd.gradcheck(apply, (maps, x))


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [(), (2,), (2, 1)])
def test_downsampling_adjoint_by_dot_product(factor, batch):
    operator = Downsampling(factor)
    x = complex_noise(*batch, 12, 24, seed=1)
    y = complex_noise(*batch, 12 // factor, 24 // factor, seed=2)
    assert operator.forward(x).shape == y.shape
    assert dot(operator.forward(x), y) == pytest.approx(dot(x, operator.adjoint(y)), abs=1e-10)
    torch.testing.assert_close(operator.normal(x), operator.adjoint(operator.forward(x)))


def test_downsampling_is_the_mean_of_blocks():
    x = torch.arange(24, dtype=torch.float64).reshape(4, 6)
    expected = [
        [x[:2, j : j + 2].mean() for j in (0, 2, 4)],
        [x[2:, j : j + 2].mean() for j in (0, 2, 4)],
    ]
    torch.testing.assert_close(Downsampling(2).forward(x), torch.tensor(expected))
    normal = Downsampling(2).normal(x) * 4  # a projection once scaled
    torch.testing.assert_close(Downsampling(2).normal(normal) * 4, normal)


def test_downsampling_refuses_what_it_cannot_divide():
    with pytest.raises(ValueError, match="divisible by 2, found 5 x 6"):
        Downsampling(2).forward(torch.zeros(5, 6))
    with pytest.raises(ValueError, match="at least 1, found 0"):
        Downsampling(0)


def test_measured_kspace_of_the_phantom_is_where_it_should_be():
    """The k-space centre line carries most of the energy: no shift between mask and data."""
    case = make_case()
    energy = fft(case.maps * case.image).abs().square().sum(dim=(0, 2))
    assert int(energy.argmax()) == case.image.shape[0] // 2


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("shape", [(12, 18), (24, 6)])
def test_the_centre_of_kspace_is_adjoint_and_a_projection(shape, factor):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    low = (shape[0] // factor, shape[1] // factor)
    y = torch.randn(2, *low, generator=generator, dtype=torch.float64)
    operator = KspaceCentre(factor)
    torch.testing.assert_close((operator.forward(x) * y).sum(), (x * operator.adjoint(y)).sum())
    once = operator.forward(x)
    again = operator.forward(operator.adjoint(once)) * factor**2
    if all(n % 2 for n in low):  # of even ones the outermost line has no partner
        torch.testing.assert_close(again, once)
    assert float(torch.linalg.norm(again)) <= float(torch.linalg.norm(once)) * (1 + 1e-12)


def test_the_centre_of_kspace_keeps_brightness_and_place():
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(32.0), indexing="ij")
    wide = torch.exp(-((y - 24) ** 2 + (x - 16) ** 2) / (2 * 3.0**2)).double()
    low = KspaceCentre(2).forward(wide)
    torch.testing.assert_close(low, wide[::2, ::2], atol=1e-4, rtol=0)  # pixel i lies at 2 i
    torch.testing.assert_close(KspaceCentre(2).adjoint(low) * 4, wide, atol=1e-4, rtol=0)
    flat = torch.full((8, 8), 3.0, dtype=torch.float64)
    torch.testing.assert_close(KspaceCentre(4).forward(flat), torch.full_like(flat[:2, :2], 3.0))


def test_the_centre_of_kspace_refuses_other_matrices():
    with pytest.raises(ValueError, match="divisible by 2, found 5 x 6"):
        KspaceCentre(2).forward(torch.zeros(5, 6))
    with pytest.raises(ValueError, match="at least 1"):
        KspaceCentre(0)


@pytest.mark.parametrize("grad", [False, True])
def test_columns_beside_the_object_cost_nothing_and_change_nothing(grad):
    maps, w = complex_noise(2, 3, 9, 12, seed=1), weights(9)
    maps[..., :2], maps[..., 7:] = 0, 0
    maps[0, ..., 5] = 0  # within the object of the other slice
    x = complex_noise(2, 9, 12, seed=2)
    exact = SenseOperator(maps, w.sqrt()[:, None])
    with torch.set_grad_enabled(grad):
        operator = ColumnSense(maps, w)
        assert operator.maps.shape[-2] == 5
        torch.testing.assert_close(operator.normal(x), exact.normal(x))
        torch.testing.assert_close(operator.weighted(0.5 * w).normal(x), 0.5 * exact.normal(x))
    nothing = ColumnSense(0 * maps, w)
    assert not nothing.normal(x).any()


@pytest.mark.parametrize("shape", [(9, 12), (16, 7)])
@pytest.mark.parametrize("single", [False, True])
def test_the_energy_of_what_the_coils_see(shape, single):
    maps, w = complex_noise(3, *shape, seed=1), weights(shape[0])
    maps[..., :2] = 0  # beside the object
    x = complex_noise(*shape, seed=2)
    expected = float((SenseOperator(maps, w.sqrt()[:, None]).forward(x)).abs().square().sum())
    if single:
        maps, w, x = maps.to(torch.complex64), w.float(), x.to(torch.complex64)
    found = ColumnSense(maps, w).energy(x.mT.contiguous())
    assert float(found) == pytest.approx(expected, rel=1e-6 if single else 1e-12)
    assert ColumnSense(maps, w).energy(x.mT * torch.nan).isnan()
