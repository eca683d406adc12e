"""Learning from the truth alone: a student without a teacher, or a teacher before it teaches."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from chpnet_training.dataset import Batch
from chpnet_training.losses import image_loss
from chpnet_training.optimization import GuardedOptimizer
from chpnet_training.recipe import Recipe
from chpnet_training.validation import psnr_of


def difficulty_weights(batch: Batch) -> Tensor:
    """Weights `batch`: easy scans count as much as hard ones, by what the start left to do."""
    error = (batch.start - batch.target).abs().mean(dim=(1, 2, 3))
    return 0.05 / (0.02 + error)


class Supervised:
    """Trains one network on the truth.

    Attributes:
        evaluated: The network that is validated and exported (averaged weights).

    Args:
        fabric: Where to train.
        network: A student, a teacher, or any network of the same interface.
        recipe: Loss and optimizer.
        name: Of the network, for messages and checkpoints.
    """

    def __init__(
        self, fabric: Fabric, network: nn.Module, recipe: Recipe, name: str = "student"
    ) -> None:
        self.recipe, self.name = recipe, name
        self.guarded = GuardedOptimizer(fabric, network, recipe.optimizer, name=name)
        self.evaluated: nn.Module = self.guarded.average

    def step(self, batch: Batch, number: int) -> dict[str, float]:
        """Learn from a batch; returns what the progress bar and the logs show."""
        image = self.guarded.network(batch.start, batch.adjoint, batch.normal, batch.noise)
        terms = image_loss(
            image,
            batch.target,
            edge_weight=self.recipe.loss.edge,
            ssim_weight=self.recipe.loss.ssim,
        )
        told = {key: float(value.detach().mean()) for key, value in terms.items()}
        self.guarded.step((terms["loss"] * difficulty_weights(batch)).mean(), number, told)
        with torch.no_grad():
            told["train_psnr"] = float(psnr_of(image, batch.target).mean())
        return told

    def networks(self) -> dict[str, nn.Module]:
        """Averaged networks by name, as checkpoints hold them."""
        return {self.name: self.evaluated}

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {self.name: self.guarded.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.guarded.load_state_dict(state[self.name])
