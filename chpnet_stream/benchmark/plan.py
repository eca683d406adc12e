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

IMAGE_S = 0.11
HALF_IMAGE_S = 0.055
"""Seconds that two cores spend on the image of a slice of 256 x 256, in fp32 and in bf16."""

LINE_S = 0.35e-3
"""Seconds for a line of a few coils, in any precision; 32 more coils take as long again."""

BUSY = 0.65
"""Part of their time for which cores are given work: behind a late slice they must catch up."""

SLOWEST, FASTEST = 0.5, 12.0
"""Slices a second, whatever the size; the latter is what a real-time sequence measures."""

HALF_ON_A_CPU = ("auto", "pytorch", "openvino")
"""Engines that take bf16 by themselves on a CPU that has it."""


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
    def words(self) -> str:
        """As people read it: 16 coils, 256 x 256."""
        coils = "1 coil" if self.coils == 1 else f"{self.coils} coils"
        return f"{coils}, {self.matrix} x {self.matrix}"

    @property
    def acceleration(self) -> int:
        """Distance of the measured lines: one coil can't be accelerated."""
        return ACCELERATION if self.coils > 1 else 1

    @property
    def lines(self) -> int:
        """Readouts of a slice; every fourth calibration line is one of the image anyway."""
        if self.acceleration == 1:
            return self.matrix
        more = CALIBRATION_LINES - CALIBRATION_LINES // self.acceleration
        return min(self.matrix, -(-self.matrix // self.acceleration) + more)

    def spent_s(self, half: bool = False) -> float:
        """Seconds that two cores spend on a slice: on its image, by its pixels, and on its lines.

        Args:
            half: In bf16 instead of fp32.
        """
        image = (HALF_IMAGE_S if half else IMAGE_S) * (self.matrix / 256) ** 2
        return image + LINE_S * (1 + self.coils / 32) * self.lines

    def pace(self) -> float:
        """Slices a second that two cores hold in fp32: somewhat more than half of their time.

        It is the same for all engines: their latencies can be compared.
        """
        return min(max(SLOWEST, round(2 * BUSY / self.spent_s()) / 2), FASTEST)


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
        set_deadline: The gadget is told the deadline, too: a network that is not ready by then is
            given up, and the conventional image goes out, which is made first.
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
    set_deadline: bool = False
    maps: Maps = "kept"
    threads: int = 0
    model: str = "chpnet-rt"
    references: bool = True

    def rate_of(self, case: Case) -> float:
        """Slices a second of a size."""
        return case.pace() if self.rate is None else self.rate

    def late_of(self, case: Case) -> float:
        """What counts as late, in ms."""
        rate = self.rate_of(case)
        return self.deadline_ms or (2e3 / rate if rate else 1e3)

    def properties_of(self, case: Case, engine: str) -> dict[str, str]:
        """Properties of the gadget that is measured."""
        kind, _, precision = engine.partition(":")
        told = {"model": self.model, "engine": kind}
        if precision:
            told["precision"] = precision
        if self.set_deadline:
            told["deadline_ms"] = f"{self.late_of(case):g}"
        return told


def in_half(engine: str) -> bool:
    """Whether an engine, with its precision behind a colon, computes in bf16 on this CPU."""
    from chpnet_stream.engines.processor import has_bfloat16

    kind, _, precision = engine.partition(":")
    asked = precision == "bf16" or (precision in ("", "auto") and kind in HALF_ON_A_CPU)
    return asked and has_bfloat16()
