"""How long a run takes, told before it begins and while it goes on.

Most of it is the pace of the scanner, which is known; what is computed beside is estimated for two
cores with nothing else to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chpnet_stream.benchmark.kept import Kept
from chpnet_stream.benchmark.plan import Case, Plan, in_half

BURST = 8
"""Slices sent without a pause, behind those for the percentiles."""

FLOOR_SLICES = 20
"""Slices through the gadget that latencies are compared with, behind a first one."""

START_S = 3.0
"""From the start of a gadget's process to its first image, and from its last to its end."""

REFERENCES_S = 5.0
"""For what the ratios of a size are taken to, 256 x 256: the paper-size student, BART, others."""

RUNS = 12
"""Times that each engine does the same slice for the ratios."""


@dataclass(frozen=True)
class Step:
    """How far a run is.

    Attributes:
        what: What is done now.
        done: Images so far.
        total: Images in all, those that were measured before included.
        left_s: Seconds for the rest, roughly.
    """

    what: str
    done: int
    total: int
    left_s: float


class Course:
    """Counts the images of a run and tells of them.

    Args:
        plan: What is to be measured.
        engines: Those of the plan that can be used here.
        kept: What has been measured before, which takes no time.
        tell: Told of every step.
    """

    def __init__(
        self, plan: Plan, engines: Sequence[str], kept: Kept, tell: Callable[[Step], None]
    ) -> None:
        self.each = 1 + plan.slices + BURST
        self.floor = FLOOR_SLICES + 1 if plan.references else 0
        self._tell = tell
        self._total = len(plan.cases) * (len(engines) * self.each + self.floor)
        self._done = self._begun = 0
        self._part, self._images = 0.0, 1
        self._left = 0.0
        for case in plan.cases:
            missing = [name for name in engines if kept.streamed(case, name) is None]
            seconds = sum(streamed_s(plan, case, name) for name in missing)
            if plan.references and kept.references(case) is None:
                seconds += references_s(case, engines)
            self._left += seconds + (simulated_s(case) if seconds else 0.0)

    def begin(self, images: int, seconds: float) -> None:
        """A part begins, of so many images and seconds; the one before has come to its end."""
        self.end()
        self._part, self._images = seconds, images

    def image(self, what: str) -> None:
        """One more image."""
        self._done += 1
        self.tell(what)

    def end(self) -> None:
        """The part is over, also where not all of its images have come."""
        if self._part:
            self._done = self._begun + self._images
            self._left = max(0.0, self._left - self._part)
        self._begun, self._part = self._done, 0.0

    def skip(self, what: str, images: int) -> None:
        """So many images were measured before."""
        self.end()
        self._done += images
        self._begun = self._done
        self.tell(what)

    def tell(self, what: str) -> None:
        """Tell how far the run is."""
        over = self._part * (self._done - self._begun) / self._images
        self._tell(Step(what, self._done, self._total, max(0.0, self._left - over)))


def streamed_s(plan: Plan, case: Case, engine: str) -> float:
    """Seconds for the slices of a size and an engine."""
    spent, rate = case.spent_s(in_half(engine)), plan.rate_of(case)
    return START_S + plan.slices * max(spent, 1 / rate if rate else 0.0) + BURST * spent


def references_s(case: Case, engines: Sequence[str]) -> float:
    """Seconds for what the ratios of a size are taken to."""
    ours = sum(case.spent_s(in_half(engine)) for engine in engines)
    return START_S + REFERENCES_S * (case.matrix / 256) ** 2 + RUNS * ours


def simulated_s(case: Case) -> float:
    """Seconds until the slices of a size are simulated."""
    return 2.0 + 5.0 * case.coils / 16 * (case.matrix / 256) ** 2


def in_words(seconds: float) -> str:
    """A time as people say it: about 40 s, about 25 min, about 1 h 50 min."""
    if seconds < 90:
        return f"about {max(10, 10 * round(seconds / 10))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    minutes = 10 * round(seconds / 600)
    return f"about {minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
