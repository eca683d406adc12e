"""Lines of k-space that can't be what was measured: empty, copies, at odds with their neighbours.

Nothing here is learned. Three things hold for measured lines whatever the object:

- A line holds at least the noise of its samples, as the noise scan tells it. One with less than a
  quarter of that (and of what lines usually hold) was not measured, or lost.
- Noise is never the same twice. Two lines that are equal but for rounding are one line.
- Where lines are measured without a gap, coils make each line follow from the two beside it
  (`line_prediction.py`). A line at a wrong place, of another phase, or with a spike does not.

And whatever the object, most of its signal is near the centre of k-space. Where it is far from the
line that the header calls the centre, the header is wrong: of partial Fourier the wrong side would
be filled in.

Lines with a gap beside them can't be told by their neighbours, and neither can what is smaller
than the noise. `docs/quality-gate.md` shows what is found and what is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chpnet_stream.line_prediction import LinePrediction, predict_lines

EMPTY = 0.25
"""Share of the energy of noise, and of the median line, below which a line is empty."""

SAME = 1e-10
"""Energy of a difference, relative to a line's, up to which two lines are the same."""

LIMIT = 1.5
"""Most that a line may miss, in units of what noise and model errors explain.

300 good slices of training pictures had up to 1.03, 50 with a noise of 30 % up to 1.48; those that
it was tried on (`docs/quality-gate.md`) set nothing.
"""

FAR = 16
"""A centre is wrong where it is further off than 1/16 of the lines (and than 8 of them)."""

NEAR = 2
"""Lines on either side of the centre that are compared with the strongest one."""

STRONGER = 10.0, 20.0
"""Energy of the strongest line, at least, in units of those at the centre, and of the median."""

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
        strongest: A line far from the centre of k-space that is far stronger than those there;
            -1 where there is none.
        centre: The line that should be the strongest.
    """

    empty: tuple[int, ...] = ()
    copies: tuple[tuple[int, int], ...] = ()
    miss: float = 0.0
    worst: int = -1
    strongest: int = -1
    centre: int = 0

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
        if self.strongest >= 0:
            found.append(
                f"the strongest line is ky {self.strongest}, {abs(self.strongest - self.centre)} "
                f"lines from ky {self.centre}, where the header has the centre of k-space: a wrong "
                "center in encodingLimits, or lines exchanged"
            )
        return "; ".join(found)


def _named(words: object) -> str:
    names = list(words)  # type: ignore[call-overload]
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")


def damaged_lines(
    data: Tensor,
    sampled: np.ndarray,
    *,
    noise: float,
    noise_known: bool,
    averages: np.ndarray | None = None,
    energies: np.ndarray | None = None,
    prediction: LinePrediction | None = None,
) -> DamagedLines:
    """Look at the lines of one slice.

    Args:
        data: Lines transformed along x, of the columns that the object is in: complex
            `coils x ky`, ky in the order of the FFT.
        sampled: How often each line was measured, `ky` in natural order; zero where not.
        noise: Variance that the noise of a line measured once has in each of these values.
        noise_known: The noise level is from a noise scan or an estimate; else only the prediction
            and the centre are looked at.
        averages: Averages that each line has the noise of, `ky`, where these are others than
            `sampled` (`Slice.noise_averages`).
        energies: Of every line, `ky` in natural order, where they are known already.
        prediction: Of the same lines, made while the slice was measured. Where it is not of the
            lines as they are now, it is made anew.

    Returns:
        The findings.
    """
    rows = np.flatnonzero(sampled)
    if not len(rows):
        return DamagedLines()
    coils, width, count = data.shape
    empty: tuple[int, ...] = ()
    copies: tuple[tuple[int, int], ...] = ()
    places = (np.arange(count) - count // 2) % count
    if energies is None:
        energies = torch.view_as_real(data).square().sum(dim=(0, 1, 3)).cpu().numpy()[places]
    energy = energies[rows].astype(np.float64)
    strongest = _strongest_elsewhere(energy, rows, count)
    if noise_known:
        times = (sampled if averages is None else averages)[rows]
        usual = np.minimum(coils * width * noise / times, np.median(energy))
        empty = tuple(int(k) for k in rows[energy < EMPTY * usual])
        pairs = _copies(data, places[rows], energy)
        copies = tuple((int(rows[a]), int(rows[b])) for a, b in pairs)
    if prediction is None or not prediction.holds_for(sampled, noise):
        prediction = predict_lines(data, sampled, noise)
    miss, worst = prediction.miss, prediction.worst
    return DamagedLines(empty, copies, miss, worst, strongest, count // 2)


def _strongest_elsewhere(energy: np.ndarray, rows: np.ndarray, count: int) -> int:
    """The strongest line, if it is clearly not at the centre of k-space; else -1."""
    centre = count // 2
    near = energy[np.abs(rows - centre) <= NEAR]
    strongest = int(energy.argmax())
    far = abs(int(rows[strongest]) - centre) > max(8, count // FAR)
    if not far or not len(near):
        return -1
    clearly = energy[strongest] > max(STRONGER[0] * near.max(), STRONGER[1] * np.median(energy))
    return int(rows[strongest]) if clearly else -1


def _copies(data: Tensor, places: np.ndarray, energy: np.ndarray) -> list[tuple[int, int]]:
    """Pairs that are the same but for a phase; equal energies tell which to look at."""
    order = np.argsort(energy)
    near = np.diff(energy[order]) <= 1e-5 * energy[order[1:]]
    found = []
    for at in np.flatnonzero(near & (energy[order[1:]] > 0)):
        a, b = sorted((int(order[at]), int(order[at + 1])))
        one, two = (data[..., int(places[i])].cpu().to(torch.complex128).flatten() for i in (a, b))
        factor = torch.vdot(one, two) / energy[a]
        if float((two - factor * one).abs().square().sum()) <= SAME * energy[b]:
            found.append((a, b))
    return sorted(found)
