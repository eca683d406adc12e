"""The processes of one training: started together, and told which of them is missing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import torch
from torch import distributed

from chpnet_training import farewell
from chpnet_training.optimization import TrainingError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

MOST_NAMED = 8
"""Processes that a message names."""

_OF_GLOO = re.compile(r"gloo|pair closure|(closed|reset) by peer|Timed out waiting|Broken pipe")
"""In the messages of gloo, which have no class of their own."""

_kept: list[Any] = []


def launch(fabric: Fabric) -> None:
    """Start the other processes, or find those that torchrun started.

    From then on this process ends when another one does by an error (`ending_together`).

    Raises:
        TrainingError: If they don't come together in time.
    """
    if farewell.store_is_there():
        farewell.listen()
    with explained():
        fabric.launch()
    if not farewell.store_is_there():
        farewell.listen()
    if distributed.is_initialized():
        # The threads of gloo need the interpreter's lock to end. Whoever drops the last reference
        # to the group waits for them: DDP's destructor with that lock held (a deadlock, now and
        # then, in PyTorch 2.13), this reference without it.
        _kept.append(distributed.group.WORLD)


def note_step(step: int) -> None:
    """Write down for the other processes which step this one has begun."""
    if distributed.is_initialized():
        _store().set(_key(distributed.get_rank()), str(step))


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Tell the other processes when this one ends by an error: they end as well, with its words.

    Raises:
        TrainingError: As `explained`.
    """
    try:
        with explained():
            yield
    except click.exceptions.Exit:
        raise
    except (Exception, KeyboardInterrupt) as error:
        farewell.tell(error)
        raise
    finally:
        farewell.stop_listening()


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Say which process is missing where one waits for another in vain.

    Raises:
        TrainingError: If processes have lost each other.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and not _OF_GLOO.search(str(error)):
            raise
        raise TrainingError(_explanation(str(error))) from error


def _explanation(found: str) -> str:
    if said := farewell.heard():
        return farewell.consequence(said)
    fault = re.sub(r"^\[[^]]*\]\s*", "", found).split(". ")[0].strip()  # without gloo's source file
    advice = (
        "look at what the others say, then give the same command again: it continues from the "
        "last checkpoint (where one step may take longer than this, with a longer "
        "--collective-timeout)"
    )
    if not distributed.is_initialized():
        return f"expected all processes of the training to come together, found: {fault}; {advice}"
    rank, world = distributed.get_rank(), distributed.get_world_size()
    return (
        f"process {rank} of {world}: expected an answer of the other processes, found: {fault}; "
        f"{_whereabouts(rank, world)}{advice}"
    )


def _whereabouts(rank: int, world: int) -> str:
    """Which processes have not begun this one's step, as far as they have said."""
    try:
        store = _store()
        steps = {
            other: int(store.get(_key(other))) if store.check([_key(other)]) else -1
            for other in range(world)
        }
    except RuntimeError:  # it ended with the process that is missing
        return ""
    own = steps[rank]
    behind = {other: step for other, step in steps.items() if step < own}
    if not behind:
        return f"all had begun step {own}; " if own >= 0 else ""
    named = ", ".join(
        f"process {other} {f'at step {step}' if step >= 0 else 'before its first step'}"
        for other, step in list(behind.items())[:MOST_NAMED]
    )
    more = f" and {len(behind) - MOST_NAMED} more" if len(behind) > MOST_NAMED else ""
    return f"this one is at step {own}, missing: {named}{more}; "


def _key(rank: int) -> str:
    return f"chpnet-step-{rank}"


def _store() -> torch.distributed.Store:
    """Where the processes found each other; PyTorch has no public name for it."""
    return distributed.distributed_c10d._get_default_store()
