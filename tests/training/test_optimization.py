import copy
import logging
import math

import pytest
import torch
from lightning.fabric import Fabric
from torch import nn

from chpnet_training.devices import MixedArithmetic
from chpnet_training.optimization import (
    MOST_SPIKES,
    SPIKE,
    GuardedOptimizer,
    TrainingError,
    learning_rate,
)
from chpnet_training.recipe import OptimizerConfig
from tests.training.tiny_runs import cpu

CONFIG = OptimizerConfig(
    steps=100, warmup=0, learning_rate=0.1, weight_decay=0.0, clip=1e9, average=0.5
)


class Line(nn.Module):
    """y = a x."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.slope.weight)

    def forward(self, x):
        return self.slope(x)


def guarded(fabric=None, **changes):
    return GuardedOptimizer(fabric or cpu(), Line(), CONFIG.model_copy(update=changes))


def learn(optimizer, x, number=0):
    """One step on a loss whose gradient is x."""
    loss = optimizer.network(torch.tensor([[float(x)]])).sum()
    return optimizer.step(loss, number, {"loss": float(loss.detach())})


def weight(optimizer):
    return next(optimizer.network.parameters()).item()


def test_the_learning_rate_warms_up_and_goes_down():
    config = OptimizerConfig(steps=100, warmup=10, learning_rate=1e-3)
    rates = [learning_rate(step, config) for step in range(101)]
    assert rates[:10] == pytest.approx([1e-4 * (i + 1) for i in range(10)])
    assert max(rates) == pytest.approx(1e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(1e-3 * (0.01 + 0.99 / 2))
    assert rates[100] == pytest.approx(1e-5)
    assert learning_rate(500, config) == pytest.approx(1e-5)


def test_a_step_goes_down_and_the_average_follows():
    optimizer = guarded()
    assert learn(optimizer, 1.0)
    assert weight(optimizer) == pytest.approx(1 - 0.1, abs=1e-6)
    assert next(optimizer.average.parameters()).item() == pytest.approx(1 - 0.1 * 0.9, abs=1e-6)
    for number in range(30):
        learn(optimizer, 1.0, number + 1)
    gap = next(optimizer.average.parameters()).item() - weight(optimizer)
    assert 0 < gap < 0.2


def test_groups_have_rates_of_their_own():
    network = nn.ModuleList([Line(), Line()])
    groups = [
        {"params": list(network[0].parameters())},
        {"params": list(network[1].parameters()), "scale": 0.1},
    ]
    fabric = cpu()
    optimizer = GuardedOptimizer(fabric, network, CONFIG, groups=groups)
    loss = sum(p.sum() for p in optimizer.network.parameters())
    optimizer.step(loss, 0, {})
    first, second = (p.item() for p in optimizer.network.parameters())
    assert first == pytest.approx(0.9, abs=1e-5)
    assert second == pytest.approx(0.99, abs=1e-5)


def test_long_gradients_are_clipped():
    one, two = guarded(clip=1.0), guarded(clip=1.0)
    learn(one, 1.0)
    learn(two, 1000.0)
    moments = [
        float(next(iter(o.optimizer.state_dict()["state"].values()))["exp_avg"]) for o in (one, two)
    ]
    assert moments[0] == pytest.approx(moments[1], rel=1e-5)


def test_a_gradient_far_above_the_usual_is_left_out(caplog):
    optimizer = guarded()
    for number in range(60):
        assert learn(optimizer, 1.0, number)
    before = weight(optimizer)
    with caplog.at_level(logging.WARNING):
        assert not learn(optimizer, SPIKE * 1.1, 60)
    assert "step 60, student: left out" in caplog.text
    assert weight(optimizer) == before
    assert learn(optimizer, SPIKE * 0.9, 61)  # large, but taken
    assert optimizer.spikes == 0
    for number in range(MOST_SPIKES - 1):
        assert not learn(optimizer, 1e3, 62 + number)
    with pytest.raises(TrainingError, match=f"{MOST_SPIKES} gradients in a row"):
        learn(optimizer, 1e3, 99)


def test_the_first_gradients_are_no_spikes():
    optimizer = guarded()
    assert learn(optimizer, 1e-3)
    assert learn(optimizer, 1e3, 1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_diagnosed_before_the_weights_change(value):
    optimizer = guarded()
    before = weight(optimizer)
    with pytest.raises(TrainingError) as caught:
        learn(optimizer, value, 7)
    for word in (
        "step 7",
        "student",
        "loss",
        str(value),
        "not finite in slope.weight",
        "at a learning rate of 0.099; begin a new run",
    ):
        assert word in str(caught.value)
    assert weight(optimizer) == before
    assert "\n" not in str(caught.value)


def test_a_finite_loss_with_an_infinite_gradient_is_found():
    optimizer = guarded()
    loss = (optimizer.network(torch.ones(1, 1)).sum() - 1.0).clamp_min(0).sqrt()
    with pytest.raises(TrainingError, match=r"loss 0 and a gradient norm of (nan|inf)"):
        optimizer.step(loss, 0, {"loss": float(loss.detach())})


def test_state_is_all_that_goes_on():
    one, two = guarded(), guarded()
    for number in range(3):
        learn(one, 1.0 + number, number)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for optimizer in (one, two):
        learn(optimizer, 0.3, 3)
    assert weight(one) == weight(two)
    for key in ("usual", "spikes", "updates"):
        assert one.state_dict()[key] == two.state_dict()[key]


@pytest.fixture
def half():
    """The fabric of --precision 16-mixed, with the scaler of the CPU."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**15)
    plugin = MixedArithmetic("16-mixed", "cpu", scaler)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[plugin])
    fabric.launch()
    return fabric, scaler


def test_a_gradient_that_half_precision_cannot_hold_lowers_the_scale(half):
    fabric, scaler = half
    optimizer = guarded(fabric)
    before = weight(optimizer)
    assert not learn(optimizer, 100.0)  # 100 * 2 ** 15 is more than half precision holds
    assert weight(optimizer) == before
    assert scaler.get_scale() == 2.0**14
    tries = 1
    while not learn(optimizer, 100.0, tries):
        tries += 1
        assert tries < 20
    assert weight(optimizer) == pytest.approx(before - 0.1, abs=1e-3)
    assert optimizer.updates == 1


def test_a_spike_in_half_precision_is_left_out_too(half):
    fabric, _ = half
    optimizer = guarded(fabric)
    for number in range(60):
        learn(optimizer, 0.1, number)
    before = weight(optimizer)
    assert not learn(optimizer, 1.5, 60)
    assert weight(optimizer) == before
    assert learn(optimizer, 0.1, 61)


def test_half_precision_does_not_hide_a_loss_that_is_not_finite(half):
    fabric, _ = half
    with pytest.raises(TrainingError, match="loss nan"):
        learn(guarded(fabric), math.nan)
