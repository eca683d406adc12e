import pytest
import torch

from chpnet_stream.network.chpnet import _solve
from chpnet_stream.network.normal import Solver, SuperresNormal, to_channels, to_complex
from tests.network.problems import sense_problem
from tests.physics.cases import complex_noise


def test_channels_and_complex_are_the_same_numbers():
    image = complex_noise(2, 5, 4)
    channels = to_channels(image)
    assert channels.shape == (2, 2, 5, 4)
    torch.testing.assert_close(channels[:, 0], image.real)
    torch.testing.assert_close(channels[:, 1], image.imag)
    assert torch.equal(to_complex(channels), image)


@pytest.mark.parametrize("shape", [(16, 12), (15, 13)])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_three_forms_of_one_operator(shape, batch, dtype):
    x = torch.randn(batch, 2, *shape, dtype=dtype)
    column, gram, operator = (
        sense_problem(shape, batch, normal=kind, dtype=dtype)[0].normal(x)
        for kind in ("column", "gram", "operator")
    )
    assert column.dtype == dtype
    torch.testing.assert_close(gram, column)
    torch.testing.assert_close(operator, column)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_downsampling_normal_is_a_projection(factor, channels):
    normal = SuperresNormal(factor)
    x = torch.randn(2, channels, 8, 12, dtype=torch.float64)
    y = torch.randn(2, channels, 8, 12, dtype=torch.float64)
    torch.testing.assert_close(normal(normal(x)), normal(x))
    torch.testing.assert_close((normal(x) * y).sum(), (x * normal(y)).sum())
    constant = torch.ones(1, 1, 8, 12)
    torch.testing.assert_close(normal(constant), constant)


@pytest.mark.parametrize("shape", [(16, 12), (15, 13)])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("steps", [1, 5])
def test_a_solver_takes_the_steps_that_everybody_takes(shape, batch, steps):
    problem, _ = sense_problem(shape, batch)
    assert isinstance(problem.normal, Solver)
    weight = torch.rand(batch, 1, *shape, dtype=torch.float64) + 0.1
    inputs = [t.clone() for t in (problem.adjoint, problem.start, weight)]
    with torch.no_grad():
        found = _solve(problem.normal, *inputs, steps)
        plain = _solve(lambda x: problem.normal(x), *inputs, steps)
    torch.testing.assert_close(found, plain)
    assert found.is_contiguous()
    assert all(map(torch.equal, inputs, (problem.adjoint, problem.start, weight)))
    assert float((found - problem.start).abs().max()) > 1e-3


def test_gradients_take_the_plain_steps():
    problem, _ = sense_problem((16, 12))
    gradients = []
    for normal in (problem.normal, lambda x: problem.normal(x)):
        weight = torch.full((1, 1, 16, 12), 0.5, dtype=torch.float64, requires_grad=True)
        _solve(normal, problem.adjoint, problem.start, weight, 2).square().sum().backward()
        gradients.append(weight.grad)
    assert float(gradients[0].abs().max()) > 0
    assert torch.equal(*gradients)
