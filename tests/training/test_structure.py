import pytest
import torch

from chpnet_training.gates import Gates
from chpnet_training.structure import STRONGEST, price, structure_loss
from chpnet_training.teacher import SwinTeacher, TeacherConfig
from tests.network.problems import sense_problem, solve


def test_the_price_is_positive_behind_and_negative_ahead():
    assert price(0.10, 0.05, 0.02) == pytest.approx(0.02)
    assert price(0.05, 0.05, 0.02) == 0
    assert price(0.0, 0.05, 0.02) == pytest.approx(-0.02)
    assert price(-0.05, 0.05, 0.02) == pytest.approx(-0.04)
    lags = [price(lag / 100, 0.05, 0.02) for lag in range(-5, 15)]
    assert lags == sorted(lags)


def test_the_price_is_bounded():
    assert price(1e9, 0.05, 0.02) == pytest.approx(STRONGEST * 0.02)
    assert price(-1e9, 0.05, 0.02) == pytest.approx(-STRONGEST * 0.02)
    assert price(0.5, 0.0, 0.02) == pytest.approx(STRONGEST * 0.02)


def test_the_loss_is_what_open_blocks_cost():
    gates = Gates(4)
    with torch.no_grad():
        gates.logits.copy_(torch.tensor([40.0, 40.0, -40.0, -40.0]))
    assert structure_loss(gates, 0.5).detach() == pytest.approx(0.25)


@pytest.mark.parametrize("logit", [-5.0, 3.0])
@pytest.mark.parametrize("cost", [0.02, -0.02])
def test_its_gradient_has_the_sign_of_the_price(logit, cost):
    gates = Gates(3)
    with torch.no_grad():
        gates.logits.fill_(logit)
    structure_loss(gates, cost).backward()
    assert (gates.logits.grad * cost > 0).all()
    logits = torch.tensor([-5.0, 0.3, 3.0], dtype=torch.float64, requires_grad=True)

    def loss(values: torch.Tensor) -> torch.Tensor:
        p = torch.func.functional_call(Probability(gates), {"gates.logits": values}, ())
        return cost * p.mean()

    assert torch.autograd.gradcheck(loss, logits)


class Probability(torch.nn.Module):
    """`Gates.probability_open` as a module, for `functional_call`."""

    def __init__(self, gates: Gates) -> None:
        super().__init__()
        self.gates = gates

    def forward(self) -> torch.Tensor:
        return self.gates.probability_open()


def test_blocks_close_while_they_cost_and_open_again_when_they_pay():
    """The teacher's own optimizer: its image, then without and with its blocks, and again."""
    torch.manual_seed(0)
    config = TeacherConfig(width=8, blocks=2, window=4, iterations=1, cg_steps=1)
    teacher = SwinTeacher(config)
    optimizer = torch.optim.AdamW([teacher.gates.logits], lr=0.3, weight_decay=0.0)
    problem, _ = sense_problem((16, 16), dtype=torch.float32)
    with torch.no_grad():
        whole = solve(teacher, problem)

    def learn(lag: float) -> list[int]:
        opened = []
        for _ in range(40):
            optimizer.zero_grad()
            structure_loss(teacher.gates, price(lag, 0.05, 0.02)).backward()
            optimizer.step()
            teacher.gates.keep_in_reach()
            opened.append(sum(teacher.gates.open_blocks()))
        return opened

    behind = learn(lag=0.3)
    assert behind[0] == 2
    assert behind[-1] == 0
    with torch.no_grad():
        without = solve(teacher, problem)
    assert not torch.allclose(whole, without)
    caught_up = learn(lag=0.0)
    assert caught_up[0] == 0
    assert caught_up[-1] == 2
    with torch.no_grad():
        teacher.gates.logits.clamp_min_(3.0)
        torch.testing.assert_close(solve(teacher, problem), whole)
