"""Gates that open and close whole blocks of the teacher, learned by gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

TEMPERATURE = 2 / 3
LOW, HIGH = -0.1, 1.1
"""The interval to which the concrete distribution is stretched before it is clipped to 0..1."""
OPEN_AT_FIRST = 3.0
"""Logits of fresh gates: the probability of being open is then above 0.99."""
REACH = 4.0
"""Logits stay within this distance of zero: further out the gradient vanishes, for good."""


class Gates(nn.Module):
    """One hard-concrete gate for every block (Louizos et al., arXiv 1712.01312).

    While structure is being learned each gate is drawn once a step: mostly 0 or 1, in between
    with a gradient. Otherwise it has one value, and a block whose gate is 0 is skipped: it is
    not computed, and its input passes on.

    Attributes:
        logits: `blocks`; without drawing a gate is 0 below -2.4, one half at 0, 1 from 2.4 on.
        learning: Whether gates are drawn (True) or have their one value.

    Args:
        blocks: Number of gates.
    """

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.full((blocks,), OPEN_AT_FIRST))
        self.learning = False

    def forward(self) -> Tensor:
        """Values of all gates `blocks`, in 0..1."""
        if self.learning:
            uniform = torch.rand_like(self.logits).clamp(1e-6, 1 - 1e-6)
            noisy = (uniform.log() - (-uniform).log1p() + self.logits) / TEMPERATURE
        else:
            noisy = self.logits
        return (torch.sigmoid(noisy) * (HIGH - LOW) + LOW).clamp(0.0, 1.0)

    def probability_open(self) -> Tensor:
        """Probability `blocks` that a drawn gate is not 0, with a gradient even where it is."""
        return torch.sigmoid(self.logits - TEMPERATURE * math.log(-LOW / HIGH))

    @torch.no_grad()
    def keep_in_reach(self) -> None:
        """Bring logits that went too far back to where the next price can still move them."""
        self.logits.clamp_(-REACH, REACH)

    def open_blocks(self) -> list[bool]:
        """Which blocks are computed when nothing is drawn."""
        learning, self.learning = self.learning, False
        with torch.no_grad():
            values = self()
        self.learning = learning
        return [value > 0 for value in values.tolist()]
