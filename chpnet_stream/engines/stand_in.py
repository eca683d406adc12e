"""An engine that runs instead of the one that was asked for."""

from __future__ import annotations

from torch import Tensor

from chpnet_stream.engines.engine import Engine, Problem

INSTEAD = " (instead of "
"""In the name of an engine that stands in for the one that was asked for."""


def instead_name(name: str, wanted: str) -> str:
    """Name of an engine that stands in for another one."""
    return f"{name}{INSTEAD}{wanted})"


class StandIn:
    """An engine that says by its name whom it stands in for, and why.

    Args:
        engine: What runs.
        wanted: Name of what was asked for.
        reason: Why that is not used.
    """

    def __init__(self, engine: Engine, wanted: str, reason: str) -> None:
        self.engine = engine
        self.card = engine.card
        self.device = engine.device
        self.wanted = wanted
        self.reason = reason

    @property
    def name(self) -> str:
        """As of every engine."""
        return instead_name(self.engine.name, self.wanted)

    def run(self, problem: Problem) -> Tensor:
        """See `Engine.run`."""
        return self.engine.run(problem)


def stands_in(engine: Engine) -> bool:
    """Whether this thread's last image is by another engine than the one that was asked for.

    It may be so for one matrix only, for which there are no plans; where it is so for good,
    `reason_of` knows why.
    """
    return INSTEAD in engine.name


def reason_of(engine: Engine) -> str:
    """Why another engine runs for good than the one that was asked for; empty where none does."""
    found: str = getattr(engine, "reason", "")
    return found
