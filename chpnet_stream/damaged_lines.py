"""Lines of k-space that can't be what was measured: empty, copies, at odds with their neighbours.

Nothing here is learned. Three things hold for measured lines whatever the object:

- A line holds at least the noise of its samples, as the noise scan tells it. One with less than a
  quarter of that (and of what lines usually hold) was not measured, or lost.
- Noise is never the same twice. Two lines that are equal but for rounding are one line.
- Where lines are measured without a gap, coils make each line follow from the two beside it, by
  weights that are the same for all of them (the idea of GRAPPA; Griswold et al., Magn Reson Med
  2002;47:1202). They are fitted here in strips of columns. What a line misses of its neighbours'
  prediction is compared with its noise, plus `MODEL_ERROR` of its neighbours' amplitude. A line
  at a wrong place, of another phase, or with a spike misses it by more.

Lines with a gap beside them can't be told by the last of these, and neither can what is smaller
than the noise. `docs/quality-gate.md` shows what is found and what is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

EMPTY = 0.25
"""Share of the energy of noise, and of the median line, below which a line is empty."""

SAME = 1e-10
"""Energy of a difference, relative to a line's, up to which two lines are the same."""

MODEL_ERROR = 0.4
"""Amplitude, relative to the neighbours', that good lines may miss of their prediction."""

LIMIT = 1.5
"""Most that a line may miss, in units of what noise and model errors explain.

300 good slices of training pictures had up to 1.03, 50 with a noise of 30 % up to 1.48; those that
it was tried on (`docs/quality-gate.md`) set nothing.
"""

STRIP = 8
"""Columns that share the weights of a prediction."""

FITTED = 32
"""Lines, the most central ones, that weights are fitted to."""

LEAST_LINES = 8
LEAST_COILS = 4
"""With less there is no prediction."""

FIT_REGULARIZATION = 1e-3
NAMED = 5
"""Lines that a text names at most."""


@dataclass(frozen=True)
class DamagedLines:
    """What was found.

    Attributes:
        empty: Lines that hold less than noise, indices along ky.
        copies: Pairs of lines that are the same.
        miss: How far the line that misses its prediction most is from it, in units of what noise
            and model errors explain; zero where nothing could be predicted.
        worst: That line.
    """

    empty: tuple[int, ...] = ()
    copies: tuple[tuple[int, int], ...] = ()
    miss: float = 0.0
    worst: int = -1

    @property
    def mark(self) -> str:
        """What is wrong, in words; empty where nothing is."""
        found = []
        if self.empty:
            found.append(
                f"measured lines that are empty: {len(self.empty)} "
                f"(ky {_named(map(str, self.empty))}), with less than the noise scan's noise"
            )
        if self.copies:
            pairs = _named(f"{a} and {b}" for a, b in self.copies)
            found.append(f"measured lines that are copies: {len(self.copies)} (ky {pairs})")
        if not self.miss <= LIMIT:
            found.append(
                f"line ky {self.worst} is {self.miss:.3g} times as far from what the lines beside "
                f"it predict as noise and model errors explain, usual is up to {LIMIT:.3g}: lines "
                "exchanged, spikes, jumps of phase, or motion"
            )
        return "; ".join(found)


def _named(words: object) -> str:
    names = list(words)  # type: ignore[call-overload]
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def damaged_lines(
    data: Tensor, sampled: np.ndarray, *, noise: float, noise_known: bool
) -> DamagedLines:
    """Look at the lines of one slice.

    Args:
        data: Lines transformed along x, of the columns that the object is in: complex
            `coils x ky`, ky in the order of the FFT.
        sampled: How often each line was measured, `ky` in natural order; zero where not.
        noise: Variance that the noise of a line measured once has in each of these values.
        noise_known: The noise level is from a noise scan or an estimate; else only the prediction
            is looked at.

    Returns:
        The findings.
    """
    rows = np.flatnonzero(sampled)
    if not len(rows):
        return DamagedLines()
    count = len(sampled)
    places = torch.from_numpy((rows - count // 2) % count)
    lines = data.cpu().index_select(-1, places)  # coils x measured
    coils, width, _ = lines.shape
    variance = noise / sampled[rows].astype(np.float64)
    energy = torch.view_as_real(lines).square().sum(dim=(0, 1, 3)).double().numpy()
    empty: tuple[int, ...] = ()
    copies: tuple[tuple[int, int], ...] = ()
    if noise_known:
        least = EMPTY * np.minimum(coils * width * variance, np.median(energy))
        empty = tuple(int(k) for k in rows[energy < least])
        copies = tuple((int(rows[a]), int(rows[b])) for a, b in _copies(lines, energy))
    miss, worst = _worst(lines, rows, variance)
    return DamagedLines(empty, copies, miss, worst)


def _copies(lines: Tensor, energy: np.ndarray) -> list[tuple[int, int]]:
    """Pairs that are the same but for a phase; equal energies tell which to look at."""
    order = np.argsort(energy)
    near = np.diff(energy[order]) <= 1e-5 * energy[order[1:]]
    found = []
    for at in np.flatnonzero(near & (energy[order[1:]] > 0)):
        a, b = sorted((int(order[at]), int(order[at + 1])))
        one, two = (lines[..., i].to(torch.complex128).flatten() for i in (a, b))
        factor = torch.vdot(one, two) / energy[a]
        if float((two - factor * one).abs().square().sum()) <= SAME * energy[b]:
            found.append((a, b))
    return sorted(found)


def _worst(lines: Tensor, rows: np.ndarray, variance: np.ndarray) -> tuple[float, int]:
    """The line that misses its neighbours' prediction most, and by how much."""
    coils, width, _ = lines.shape
    between = np.flatnonzero((np.diff(rows[:-1]) == 1) & (np.diff(rows[1:]) == 1)) + 1
    strips = width // STRIP
    if len(between) < LEAST_LINES or coils < LEAST_COILS or not strips:
        return 0.0, -1
    first = (width - strips * STRIP) // 2
    inside = lines[:, first : first + strips * STRIP].unflatten(1, (strips, STRIP))
    values = inside.permute(3, 1, 2, 0).contiguous()  # lines, strips, columns, coils
    energy = _energy(values)
    around = (energy[between - 1] + energy[between + 1]) / 2
    noise = torch.from_numpy(variance).float()
    own, beside = noise[between], (noise[between - 1] + noise[between + 1]) / 2
    middle = np.abs(rows[between] - (rows[0] + rows[-1]) / 2)
    fitted = np.sort(np.argsort(middle, kind="stable")[:FITTED])
    missed = torch.zeros(0)
    weights = torch.ones(len(fitted))
    few = [_of_strips(values[between[fitted] + step]) for step in (-1, 0, 1)]
    sources = torch.cat((few[0], few[2]), dim=-1)
    for _ in range(2):  # in the second round lines that miss much count less
        kernel = _weights(sources, few[1], weights)
        gap = _energy((sources @ kernel - few[1]).unflatten(1, (len(fitted), STRIP)).movedim(1, 0))
        amplified = STRIP * float(torch.view_as_real(kernel).square().sum())
        expected = coils * strips * STRIP * own + amplified * beside + MODEL_ERROR**2 * around
        missed = gap / expected[fitted]
        weights = 1 / (missed / missed.median().clamp(min=1e-30)).clamp(min=1.0)
    others = np.setdiff1d(np.arange(len(between)), fitted)
    if len(others):
        before, line, after = (_of_strips(values[between[others] + step]) for step in (-1, 0, 1))
        line -= before @ kernel[:, :coils]
        line -= after @ kernel[:, coils:]
        gap = _energy(line.unflatten(1, (len(others), STRIP)).movedim(1, 0))
        missed = torch.cat((missed, gap / expected[others]))
    order = np.concatenate((fitted, others))
    missed = missed.nan_to_num(nan=torch.inf)
    worst = int(missed.argmax())
    return float(missed[worst].sqrt()), int(rows[between[order[worst]]])


def _of_strips(values: Tensor) -> Tensor:
    """Lines, strips, columns, coils to strips, lines and columns, coils."""
    return values.movedim(0, 1).flatten(1, 2)


def _weights(sources: Tensor, lines: Tensor, weights: Tensor) -> Tensor:
    """Weights `strips 2*coils coils` that predict lines from those beside them, least squares."""
    adjoint = (sources * weights.repeat_interleave(STRIP)[:, None]).mH
    normal = adjoint @ sources
    level = normal.diagonal(dim1=1, dim2=2).real.mean(1)
    ridge = FIT_REGULARIZATION * level + torch.finfo(torch.float32).tiny
    normal = normal + ridge[:, None, None] * torch.eye(normal.shape[-1])
    return torch.linalg.solve_ex(normal, adjoint @ lines).result  # NaN without an exception


def _energy(values: Tensor) -> Tensor:
    """Of each line, the first axis."""
    return torch.view_as_real(values).square().flatten(1).sum(1)
