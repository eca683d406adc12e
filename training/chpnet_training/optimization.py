"""One network's optimizer with what keeps it out of trouble."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from chpnet_stream.errors import ChpnetError
from chpnet_training.agreement import agree
from chpnet_training.recipe import OptimizerConfig

SPIKE = 8.0
"""A gradient this many times longer than usual is left out."""
MOST_SPIKES = 20
LOWER = (
    "begin a new run with the best weights at a lower learning rate, of a student: `chpnet-train "
    "finetune RECIPE RUN/best.ckpt --rate RATE --data DATA --out NEW`"
)
"""What to do about gradients that run away; with another rate no run is continued."""

logger = logging.getLogger(__name__)


class TrainingError(ChpnetError):
    """Training cannot go on."""


def learning_rate(step: int, config: OptimizerConfig) -> float:
    """Warm-up, then half a cosine down to 1 % of the peak."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    share = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


class GuardedOptimizer:
    """AdamW with a schedule, clipping, averaged weights, and a guard against wild gradients.

    Attributes:
        network: The network as Fabric wraps it; call this one in training.
        average: The averaged weights: what is validated and exported.

    Args:
        fabric: Where to train.
        network: What to train.
        config: Rates and steps.
        name: Of the network, for messages.
        groups: Parameter groups with rates of their own (`lr` over the network's as `scale`); by
            default all parameters in one.
        trained: Whether the weights are those of a trained network. If not, the average forgets the
            first steps quickly.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: nn.Module,
        config: OptimizerConfig,
        *,
        name: str = "student",
        groups: list[dict[str, Any]] | None = None,
        trained: bool = False,
    ) -> None:
        self.fabric, self.config, self.name = fabric, config, name
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.average.to(fabric.device)
        optimizer = torch.optim.AdamW(
            groups or [{"params": list(network.parameters())}],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.network, self.optimizer = fabric.setup(network, optimizer)
        self._scaler = getattr(fabric.strategy.precision, "scaler", None)  # 16-mixed has one
        self.usual = 0.0
        self.spikes = 0
        self.updates = 0
        self.trained = trained

    def step(self, loss: Tensor, number: int, terms: dict[str, float]) -> bool:
        """Take one step down the gradient of `loss`; returns whether it was taken.

        Args:
            loss: Scalar.
            number: Step of the run, for the schedule and for messages.
            terms: What the loss is made of, for the diagnosis.

        Raises:
            TrainingError: If the loss or its gradient is not finite, or spikes don't end.
        """
        rate = learning_rate(number, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(
            self.network, self.optimizer, max_norm=self.config.clip, error_if_nonfinite=False
        )
        told = [float(loss.detach()), math.nan if norm is None else float(norm)]
        value, size = agree(self.fabric, told)
        if self._overflowed(value, size):
            return False
        if not (math.isfinite(value) and math.isfinite(size)):
            raise TrainingError(self._diagnosis(number, rate, size, terms))
        if self._is_spike(number, size):
            if self._scaler is not None:
                self._scaler.update()
            return False
        self.optimizer.step()
        self.updates += 1
        decay = self.config.average
        if not self.trained:
            decay = min(decay, self.updates / (self.updates + 9))
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
            for mean, now in pairs:
                mean.lerp_(now, 1 - decay)
        return True

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "usual": self.usual,
            "spikes": self.spikes,
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.usual = float(state["usual"])
        self.spikes = int(state["spikes"])
        self.updates = int(state["updates"])

    def _overflowed(self, value: float, size: float) -> bool:
        """Whether half precision could not hold the gradient: it is left out and scaled less."""
        scaler = self._scaler
        if scaler is None or math.isfinite(size) or not math.isfinite(value):
            return False
        if scaler.get_scale() < 1.0:
            return False
        self.optimizer.step()  # the scaler leaves the step out and lowers its factor
        return True

    def _diagnosis(self, number: int, rate: float, size: float, terms: dict[str, float]) -> str:
        said = ", ".join(f"{key} {value:.4g}" for key, value in terms.items())
        bad = [
            name.replace("_forward_module.", "").replace("module.", "")
            for name, p in self.network.named_parameters()
            if p.grad is not None and not bool(torch.isfinite(p.grad).all())
        ]
        where = f"; not finite in {', '.join(bad[:3])}" if bad else ""
        world = self.fabric.world_size
        process = f", process {self.fabric.global_rank} of {world}" if world > 1 else ""
        return (
            f"step {number}, {self.name}{process}: expected a finite loss and gradient, found "
            f"{said} and a gradient norm of {size}{where} at a learning rate of {rate:.2g}; "
            f"{LOWER}"
        )

    def _is_spike(self, number: int, size: float) -> bool:
        """Whether a gradient is so much larger than usual that the step must be left out.

        Clipping keeps the length of such a step but not its direction, and one in thousands can
        throw the weights off.
        """
        if self.usual > 0 and self.updates >= 50 and size > SPIKE * self.usual:
            self.spikes += 1
            logger.warning(
                "step %d, %s: left out, gradient norm %.3g, usually %.3g",
                number,
                self.name,
                size,
                self.usual,
            )
            if self.spikes >= MOST_SPIKES:
                raise TrainingError(
                    f"step {number}, {self.name}: {self.spikes} gradients in a row were more than "
                    f"{SPIKE:g} times the usual {self.usual:.3g}; {LOWER}"
                )
            return True
        self.spikes = 0
        if self.updates < 50:
            self.usual = max(self.usual, size)
        else:
            self.usual += 0.02 * (size - self.usual)
        return False
