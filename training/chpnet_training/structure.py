"""Which of the teacher's blocks are open: the price that the student's feedback sets."""

from __future__ import annotations

from torch import Tensor

from chpnet_training.gates import Gates

STRONGEST = 3.0
"""A lag or lead counts at most this many times the gap that is in order."""


def price(lag: float, gap: float, most: float) -> float:
    """Price of an open block: positive while the student lags behind, negative once it does not.

    A student that lags further behind its teacher than `gap` needs a simpler teacher: blocks cost
    something, and those that neither the truth nor the student misses close. When the student has
    caught up the price changes its sign, and closed blocks open again.

    Args:
        lag: `Feedback.lag`.
        gap: The lag at which the price is zero.
        most: The price at twice this lag.
    """
    excess = (lag - gap) / max(gap, 1e-3)
    return most * min(max(excess, -STRONGEST), STRONGEST)


def structure_loss(gates: Gates, price_of_block: float) -> Tensor:
    """Mean probability of being open, times the price; with a gradient for closed gates too."""
    return price_of_block * gates.probability_open().mean()
