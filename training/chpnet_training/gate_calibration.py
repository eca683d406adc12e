"""Limits of a model's quality gate, from what its checks find on good scans."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chpnet_stream.engines.engine import Engine
from chpnet_stream.errors import InputError, ReconstructionError
from chpnet_stream.network.card import ModelCard
from chpnet_stream.network.gate_limits import GateLimits
from chpnet_stream.quality import Quality, problem_of
from chpnet_stream.whole_file import write_whole
from chpnet_training.bank import SourceBank
from chpnet_training.gate_scans import EVERY, LARGE, SCANS, GateScan, Judged, draw_scan, judge

LIMITED = ("energy_ratio", "misfit", "brightness", "local", "inconsistency", "overstated")
MARGIN = 1.5
"""From the largest finding of a good scan to the limit."""


@dataclass(frozen=True)
class FalseAlarms:
    """Good scans that the gate refused.

    Attributes:
        scans: How many there were.
        alarms: How many were refused.
        marks: How many were sent, but marked.
        harmful: Of the alarms, those whose image was further from the truth than CG-SENSE's.
    """

    scans: int
    alarms: int
    marks: int
    harmful: int

    @property
    def upper(self) -> float:
        """Upper end of the one-sided 95 % confidence interval of the rate (Clopper, Pearson)."""
        return upper_bound(self.alarms, self.scans)


def upper_bound(found: int, total: int, confidence: float = 0.95) -> float:
    """Largest rate with which `found` or fewer of `total` still happen once in twenty times.

    Clopper and Pearson, Biometrika 1934;26:404, one-sided; by bisection of the binomial sum.
    """
    if found >= total:
        return 1.0

    def log_term(k: int, p: float) -> float:
        choose = math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
        return choose + k * math.log(p) + (total - k) * math.log1p(-p)

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        chance = sum(math.exp(log_term(k, middle)) for k in range(found + 1))
        low, high = (middle, high) if chance > 1 - confidence else (low, middle)
    return high


def good_scans(bank: SourceBank, split: str, count: int, seed: int) -> Iterator[GateScan]:
    """Scans of the pictures of one split of training data, every picture about as often.

    Raises:
        InputError: The file has no picture in that split.
    """
    found = bank.indices(split)
    if not len(found):
        raise InputError(f"{bank.path}: expected pictures in split '{split}', found none")
    rng = np.random.default_rng(seed)
    order = rng.permutation(found)
    for number in range(count):
        config = SCANS if number % EVERY else LARGE
        yield draw_scan(bank[int(order[number % len(order)])], rng, config)


def set_limits(found: Sequence[Quality], *, margin: float = MARGIN, data: str = "") -> GateLimits:
    """Limits that all of the given good findings keep.

    Args:
        found: What the checks found.
        margin: Factor from the largest of them to the limit.
        data: Checksum of the file of the pictures.

    Raises:
        ReconstructionError: There are none, or one is not finite: such a network can't be limited.
    """
    if not found:
        raise ReconstructionError(
            "expected findings of the network on good scans, found none: it made no image of any; "
            "see what it says in `chpnet-stream offline`"
        )
    rows = [[getattr(q, name) for name in LIMITED] + list(q.change) for q in found]
    if not all(math.isfinite(value) for row in rows for value in row):
        raise ReconstructionError(
            "expected finite findings of the network on good scans, found NaN; train it again"
        )
    largest = np.array(rows).max(0)
    # of an energy of one only what is above it is widened
    largest[0] = max(1 + (largest[0] - 1) * margin, 1.05)
    largest[1:] *= margin
    values = [_rounded(float(v)) for v in largest]
    return GateLimits(
        energy=values[0],
        misfit=values[1],
        brightness=values[2],
        local=values[3],
        inconsistency=values[4],
        overstated=values[5],
        change=(values[6], values[7], values[8], values[9]),
        slices=len(found),
        margin=margin,
        data=data[:12],
    )


def _rounded(value: float) -> float:
    """Three digits, never below."""
    digits = 2 - math.floor(math.log10(max(value, 1e-6)))
    return max(math.ceil(value * 10**digits) / 10**digits, 1e-6)


def findings(
    scans: Iterator[GateScan],
    engine: Engine,
    progress: Callable[[], None] | None = None,
) -> Iterator[Judged]:
    """What the gate finds of every scan of which the network makes an image."""
    for scan in scans:
        made = judge(scan, engine)
        if progress is not None:
            progress()
        if made.quality is not None:
            yield made


def false_alarms(found: Sequence[Judged], limits: GateLimits) -> FalseAlarms:
    """Count good scans that limits would refuse."""
    alarms = [j for j in found if j.quality and problem_of(j.quality, limits)[0] is not None]
    marks = [j for j in found if _marked(j, limits)]
    harmful = sum(j.worse_db > 0 for j in alarms)
    return FalseAlarms(len(found), len(alarms), len(marks), harmful)


def _marked(found: Judged, limits: GateLimits) -> bool:
    if found.damage is not None and found.damage.mark:
        return True
    return found.quality is not None and not found.quality.inconsistency <= limits.inconsistency


def write_limits(path: Path, limits: GateLimits) -> None:
    """Put limits into a card, whole or not at all."""
    card = ModelCard.model_validate_json(path.read_text(encoding="utf-8"))
    text = card.model_copy(update={"gate": limits}).model_dump_json(indent=2)
    write_whole(path, text + "\n")
