import math

import pytest
import torch

from chpnet_training.gates import REACH, Gates


def gates_at(*logits: float, copies: int = 1) -> Gates:
    """Gates of given logits, each `copies` times, in learning mode."""
    gates = Gates(len(logits) * copies)
    with torch.no_grad():
        gates.logits.copy_(torch.tensor(logits).repeat_interleave(copies))
    gates.learning = True
    return gates


def test_probability_is_the_frequency_of_open_draws():
    logits, copies = (-4.0, -1.6, 0.0, 1.0, 3.0), 20_000
    gates = gates_at(*logits, copies=copies)
    drawn = gates().view(len(logits), copies)
    assert drawn.min() == 0
    assert drawn.max() == 1
    expected = gates.probability_open().view(len(logits), copies)[:, 0]
    deviation = (expected * (1 - expected) / copies).sqrt()
    found = (drawn > 0).float().mean(dim=1)
    assert ((found - expected).abs() < 4 * deviation).all()
    assert (expected[1:] > expected[:-1]).all()


def test_most_draws_of_a_decided_gate_are_its_value():
    drawn = gates_at(-6.0, 6.0, copies=2000)().view(2, 2000)
    assert (drawn[0] == 0).float().mean() > 0.95
    assert (drawn[1] == 1).float().mean() > 0.95


def test_fresh_gates_are_open_and_pass_everything():
    gates = Gates(5)
    assert gates().tolist() == [1.0] * 5
    assert gates.open_blocks() == [True] * 5
    assert (gates.probability_open() > 0.99).all()


def test_without_learning_nothing_is_drawn():
    gates = gates_at(-3.0, -2.0, 0.0, 2.0)
    gates.learning = False
    state = torch.get_rng_state()
    first = gates().detach()
    assert torch.equal(first, gates())
    assert torch.equal(state, torch.get_rng_state())
    assert first[0] == 0
    assert first[2] == pytest.approx(0.5)
    assert (first[1:] > first[:-1]).all()


def test_open_blocks_are_those_whose_value_is_not_zero():
    gates = gates_at(-3.0, -2.0, 0.0, -9.0)
    state = torch.get_rng_state()
    assert gates.open_blocks() == [False, True, True, False]
    assert gates.learning
    assert torch.equal(state, torch.get_rng_state())
    border = math.log(1 / 11)
    assert gates_at(border - 0.01, border + 0.01).open_blocks() == [False, True]


@pytest.mark.parametrize("logit", [-8.0, -3.0, 0.0, 3.0])
def test_the_probability_has_a_gradient_for_closed_gates_too(logit):
    gates = gates_at(logit).double()
    gates.probability_open().sum().backward()
    p = float(gates.probability_open().detach())
    assert float(gates.logits.grad) == pytest.approx(p * (1 - p))
    assert float(gates.logits.grad) > 1e-4


def test_the_gradient_of_a_draw():
    """With the noise held, by finite differences; and on average that of the expected value."""

    def draw(logits: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(4)
        return torch.func.functional_call(gates, {"logits": logits}, ())

    gates = gates_at(-1.0, 0.0, 0.5, 2.0, copies=5).double()
    assert torch.autograd.gradcheck(draw, gates.logits.detach().clone().requires_grad_())

    many = gates_at(-2.0, copies=200_000).double()
    many().sum().backward()
    found = float(many.logits.grad.mean())
    means = []
    for logit in (-2.1, -1.9):
        torch.manual_seed(9)
        means.append(float(gates_at(logit, copies=200_000).double()().detach().mean()))
    assert found == pytest.approx((means[1] - means[0]) / 0.2, rel=0.03)
    assert found > 0.01


def test_gates_stay_where_a_price_can_move_them():
    gates = gates_at(-50.0, -1.0, 2.0, 50.0)
    gates.keep_in_reach()
    assert gates.logits.tolist() == [-REACH, -1.0, 2.0, REACH]
    gates.learning = False
    assert gates.open_blocks() == [False, True, True, True]
    gates.probability_open().sum().backward()
    assert (gates.logits.grad > 0.003).all()
