"""What is to be measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Maps = Literal["kept", "new"]

MATRICES = (128, 192, 256, 320)
COILS = (1, 8, 16, 32)
SLICES = 1000
RATE = 2.0
QUICK_MATRICES = (128, 256)
QUICK_COILS = (8, 16)
QUICK_SLICES = 20

ACCELERATION = 4
CALIBRATION_LINES = 24

FASTEST = 12.0
"""Slices a second, whatever the size: what a real-time sequence measures."""

TWICE_AS_FAST = ("bf16",)
"""Precisions in which a CPU that has them is sent twice as many."""


@dataclass(frozen=True)
class Case:
    """One size of scan.

    Attributes:
        matrix: Lines and columns.
        coils: Receive coils. One coil is measured without acceleration.
    """

    matrix: int
    coils: int

    @property
    def acceleration(self) -> int:
        """Distance of the measured lines: one coil can't be accelerated."""
        return ACCELERATION if self.coils > 1 else 1

    @property
    def pace(self) -> float:
        """Slices a second that two cores hold in fp32: somewhat more than half of their time.

        A slice takes about as long as it has pixels; the coils count for the lines before.
        """
        spent = 0.12 * (self.matrix / 256) ** 2 * (1 + self.coils / 64)
        return min(max(0.5, round(2 * 0.6 / spent) / 2), FASTEST)


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        engines: Names of engines, with their precision behind a colon where it is not "auto".
        cases: Sizes.
        slices: Slices streamed for the percentiles, behind the cold one.
        rate: Slices a second at which the scanner sends, its lines evenly spread; 0: the next slice
            comes when the image of the one before has come back. None: what two cores can hold, by
            the size (`Case.pace`).
        deadline_ms: Images that come later than this are counted; 0: twice the time of a slice.
        maps: "kept": positions come again, with the same coil maps; "new": every slice is another
            position and needs maps of its own.
        threads: CPU threads of the gadget; 0 for all cores.
        model: Installed model or card.
        references: Measure what the ratios are taken to.
    """

    engines: tuple[str, ...]
    cases: tuple[Case, ...]
    slices: int = SLICES
    rate: float | None = RATE
    deadline_ms: float = 0.0
    maps: Maps = "kept"
    threads: int = 0
    model: str = "chpnet-rt"
    references: bool = True

    def rate_of(self, case: Case, engine: str = "") -> float:
        """Slices a second of a size, for an engine with its precision."""
        if self.rate is not None:
            return self.rate
        faster = engine.partition(":")[2] in TWICE_AS_FAST
        return min(2 * case.pace, FASTEST) if faster else case.pace

    def late_of(self, case: Case, engine: str = "") -> float:
        """What counts as late, in ms."""
        rate = self.rate_of(case, engine)
        return self.deadline_ms or (2e3 / rate if rate else 1e3)
