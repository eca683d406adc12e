"""How far measured lines of k-space are from what the lines beside them predict.

Where lines are measured without a gap, coils make each line follow from the two beside it, by
weights that are the same for all of them (the idea of GRAPPA; Griswold et al., Magn Reson Med
2002;47:1202). They are fitted here in strips of columns. What a line misses of its neighbours'
prediction is compared with its noise, plus `MODEL_ERROR` of its neighbours' amplitude. A line
at a wrong place, of another phase, or with a spike misses it by more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MODEL_ERROR = 0.4
"""Amplitude, relative to the neighbours', that good lines may miss of their prediction."""

STRIP = 8
"""Columns that share the weights of a prediction."""

FITTED = 32
"""Lines, those nearest to the centre of k-space, that weights are fitted to."""

LEAST_LINES = 8
LEAST_COILS = 4
"""With less there is no prediction."""

FIT_REGULARIZATION = 1e-3


@dataclass(frozen=True, eq=False)
class LinePrediction:
    """How lines follow from those beside them.

    Attributes:
        miss: How far the line that misses its prediction most is from it, in units of what noise
            and model errors explain; zero where nothing could be predicted.
        worst: That line, an index along ky; -1 where there is none.
        used: How often the lines that were looked at were measured, `ky`; zero for the others.
        noise: Variance of the noise that was reckoned with.
    """

    miss: float
    worst: int
    used: np.ndarray
    noise: float

    def holds_for(self, sampled: np.ndarray, noise: float) -> bool:
        """Whether it is of the same lines, with the same averages, and of the same noise."""
        return noise == self.noise and np.array_equal(self.used, used_lines(sampled))


def used_lines(sampled: np.ndarray) -> np.ndarray:
    """`sampled` with zeros for the lines that no prediction is made of or from, `ky`."""
    between = _gapless(sampled)
    used = np.zeros_like(sampled)
    for step in (-1, 0, 1):
        used[between + step] = sampled[between + step]
    return used


def _gapless(sampled: np.ndarray) -> np.ndarray:
    """Lines that are measured, and both beside them too."""
    there = sampled > 0
    return np.flatnonzero(there[:-2] & there[1:-1] & there[2:]) + 1


def predict_lines(data: Tensor, sampled: np.ndarray, noise: float) -> LinePrediction:
    """Predict every line that has one on either side.

    Args:
        data: Lines transformed along x, of the columns that the object is in: complex
            `coils x ky`, ky in the order of the FFT.
        sampled: How often each line was measured, `ky` in natural order; zero where not.
        noise: Variance that the noise of a line measured once has in each of these values.
    """
    used = used_lines(sampled)
    between = _gapless(sampled)
    coils, width, count = data.shape
    strips = width // STRIP
    if len(between) < LEAST_LINES or coils < LEAST_COILS or not strips:
        return LinePrediction(0.0, -1, used, noise)
    rows = np.flatnonzero(used)
    places = torch.from_numpy((rows - count // 2) % count)
    first = (width - strips * STRIP) // 2
    inside = data[:, first : first + strips * STRIP].cpu().index_select(-1, places)
    # Lines, strips, columns, coils.
    values = inside.unflatten(1, (strips, STRIP)).permute(3, 1, 2, 0).contiguous()
    at = np.searchsorted(rows, between)  # its neighbours are one before and one behind
    energy = _energy(values)
    around = (energy[at - 1] + energy[at + 1]) / 2
    variance = torch.from_numpy(noise / used[rows]).float()
    own, beside = variance[at], (variance[at - 1] + variance[at + 1]) / 2
    fitted = np.sort(np.argsort(np.abs(between - count // 2), kind="stable")[:FITTED])
    missed = torch.zeros(0)
    weights = torch.ones(len(fitted))
    few = [_of_strips(values[at[fitted] + step]) for step in (-1, 0, 1)]
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
        before, line, after = (_of_strips(values[at[others] + step]) for step in (-1, 0, 1))
        line -= before @ kernel[:, :coils]
        line -= after @ kernel[:, coils:]
        gap = _energy(line.unflatten(1, (len(others), STRIP)).movedim(1, 0))
        missed = torch.cat((missed, gap / expected[others]))
    order = np.concatenate((fitted, others))
    missed = missed.nan_to_num(nan=torch.inf)
    worst = int(missed.argmax())
    return LinePrediction(float(missed[worst].sqrt()), int(between[order[worst]]), used, noise)


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
