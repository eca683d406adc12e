"""What the processes of one training do together: agree on numbers, wait for the first of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lightning.fabric import Fabric

BEAT = 1.0
"""Seconds between two signs of life of a process that the others wait for."""


def agree(fabric: Fabric, values: Sequence[float]) -> list[float]:
    """Means over all processes: the same in each of them, and not finite if one of them is not.

    Decisions that depend on data are taken from these. Processes that decide differently would wait
    for each other for ever.

    Args:
        fabric: Where the processes run.
        values: As many in every process.
    """
    if fabric.world_size == 1:
        return list(values)
    mine = torch.tensor(values, dtype=torch.float64, device=fabric.device)
    means: list[float] = torch.as_tensor(fabric.all_reduce(mine, reduce_op="mean")).tolist()
    return means


def first_alone(fabric: Fabric, work: Callable[[Callable[[], None]], None]) -> None:
    """Let the first process work while the others wait, longer than a collective may take.

    Args:
        fabric: Where the processes run.
        work: Called in the first process with a function that it calls now and then, which tells
            the others that it is alive.
    """
    if fabric.world_size == 1:
        work(lambda: None)
    elif fabric.is_global_zero:
        last = time.monotonic()

        def beat() -> None:
            nonlocal last
            if time.monotonic() - last > BEAT:
                agree(fabric, [1.0])
                last = time.monotonic()

        work(beat)
        agree(fabric, [0.0])
    else:
        while agree(fabric, [0.0])[0] > 0:
            pass
