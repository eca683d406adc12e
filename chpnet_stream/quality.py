"""Checks of a network image against the measured data, before it is sent.

Nothing here is learned but the limits. Noise has the variance s per sampled value behind whitening
(one, over the number of averages), so that for the true image x, with N sampled values,

    E |A x - y|^2 = N s,

and for the best fit to the data, which explains the noise of as many values as it has degrees of
freedom P (pixels inside the object), (N - P) s. A network's image lies between: it may miss the
data by P s more than CG-SENSE's, and by a small share (`MODEL_ERROR`) of the data beside, for no
reconstruction is exact. `docs/quality-gate.md` derives the numbers and shows what they catch.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from chpnet_stream.network.gate_limits import BANDS, GateLimits

MODEL_ERROR = 0.05
"""Amplitude, relative to the data, up to which images may differ without noise as a reason."""

CHANGE_ERRORS = (MODEL_ERROR, 1.0, 1.0, 1.0)
"""The same in every band of frequencies: only the lowest are right in CG-SENSE's image, the others
may be noise and aliasing altogether."""

BLOCK = 8
"""Side in pixels of the blocks in which an image is looked at for what the data don't support."""


@dataclass(frozen=True)
class Noise:
    """What is known of the noise of a slice, and how much was measured.

    Attributes:
        variance: Of a sampled complex value, with its weight: one over the averages.
        samples: Complex values measured, over all (virtual) coils.
        share: Mean weight of the lines, those not measured included: one over the acceleration.
    """

    variance: float
    samples: int
    share: float

    @property
    def energy(self) -> float:
        """Expected ``|A x - y|^2`` of the true image."""
        return self.variance * self.samples


@dataclass(frozen=True)
class Quality:
    """What the checks found. Except for the first three, values of good images are about one.

    Attributes:
        residual: Root of the energy of A x - y relative to that of y.
        baseline_residual: The same of the CG-SENSE image.
        energy_ratio: Energy of the image relative to CG-SENSE's.
        misfit: How much further than CG-SENSE's the image is from the data, in units of what noise
            and model errors explain.
        brightness: The same of the part of it that another brightness of the image would mend.
        local: The same as `misfit`, of the block of pixels where it is largest.
        change: Change between the two images by spatial frequency (`BANDS`), in the same units.
        inconsistency: CG-SENSE's own distance from the data, in units of what noise explains.
        overstated: Least noise that CG-SENSE's image must leave in the data, by the noise scan, in
            units of what it left: above one, the network was told of more noise than there is.
        problem: None, or what kind of fault forbids to send the image.
        detail: The same in words.
        mark: What is wrong with the data, and so with every image of them; empty where nothing is.
    """

    residual: float
    baseline_residual: float
    energy_ratio: float
    misfit: float = math.nan
    brightness: float = math.nan
    local: float = math.nan
    change: tuple[float, ...] = ()
    inconsistency: float = math.nan
    overstated: float = math.nan
    problem: str | None = None
    detail: str = ""
    mark: str = ""


def residual(image: Tensor, adjoint: Tensor, seen: Tensor, data_energy: float) -> float:
    """Relative data-consistency residual ``|A x - y| / |y|``, without y itself.

    ``|A x - y|^2 = |A x|^2 - 2 Re <x, A* y> + |y|^2``, summed in double precision.

    Args:
        image: x, complex `... y x` or `... x y`.
        adjoint: A* y, complex, like the image.
        seen: ``|A x|^2``, one number.
        data_energy: ``|y|^2``.

    Returns:
        The residual; NaN if the image is not finite, zero if there are no data.
    """
    return _residual(float(seen), float(_dot(image, adjoint)), data_energy)


def _residual(seen: float, told: float, data_energy: float) -> float:
    gap = seen - 2 * told + data_energy
    if math.isnan(gap):
        return math.nan
    return math.sqrt(max(gap, 0.0) / data_energy) if data_energy > 0 else 0.0


def check(
    image: Tensor,
    baseline: Tensor,
    adjoint: Tensor,
    normal_image: Tensor,
    seen_baseline: Tensor,
    data_energy: float,
    noise: Noise,
    limits: GateLimits | None = None,
) -> Quality:
    """Judge a network image by the data and by the conventional image.

    Args:
        image: The network's, complex, like the other images `y x` or `x y`.
        baseline: CG-SENSE's.
        adjoint: A* y.
        normal_image: A* A of the network's image.
        seen_baseline: ``|A x|^2`` of CG-SENSE's image, one number.
        data_energy: ``|y|^2``.
        noise: What is known of the noise.
        limits: The model's; by default those for models whose card has none.

    Returns:
        The findings; `problem` is None where the image may go out.
    """
    limits = limits or GateLimits()
    sums = _Sums.of(image, baseline, adjoint, normal_image, seen_baseline)
    usual = _residual(sums.seen_baseline, sums.told_baseline, data_energy)
    if not sums.finite:
        detail = "the network's image has NaN or infinite pixels"
        return Quality(math.nan, usual, math.nan, problem="not finite", detail=detail)
    found = _measure(sums, image, data_energy, noise, usual)
    problem, detail = problem_of(found, limits)
    mark = ""
    if not found.inconsistency <= limits.inconsistency:
        mark = (
            f"the conventional image misses the data by {found.inconsistency:.3g} times what noise "
            f"and model errors explain, usual is up to {limits.inconsistency:.3g}: motion, spikes, "
            "or a noise scan or calibration that does not belong to the data"
        )
    values = {**vars(found), "problem": problem, "detail": detail, "mark": mark}
    return Quality(**values)


@dataclass(frozen=True)
class _Sums:
    """All that is asked of the images, fetched at once: a GPU is waited for one time."""

    finite: bool
    seen: float
    """``|A x|^2``"""
    told: float
    """``Re <x, A* y>``"""
    energy: float
    baseline_energy: float
    seen_baseline: float
    told_baseline: float
    pixels: int
    """Of the object: CG-SENSE's image is zero where the maps are."""
    block: float
    """Most energy of A* (A x - y) in a pixel, as the mean over a block."""
    change: tuple[float, ...]
    """Energy of the change of CG-SENSE's image by bands of spatial frequency (`BANDS`)."""
    signal: tuple[float, ...]
    """The same of CG-SENSE's image."""

    @classmethod
    def of(
        cls,
        image: Tensor,
        baseline: Tensor,
        adjoint: Tensor,
        normal_image: Tensor,
        seen_baseline: Tensor,
    ) -> _Sums:
        numbers = (
            torch.view_as_real(image).isfinite().all(),
            _dot(image, normal_image),
            _dot(image, adjoint),
            _dot(image, image),
            _dot(baseline, baseline),
            seen_baseline,
            _dot(baseline, adjoint),
            baseline.count_nonzero(),
            _largest_block(normal_image - adjoint),
        )
        one = torch.stack([number.double() for number in numbers])
        bands, _ = _bands(*image.shape, image.device)
        spectra = torch.fft.fft2(torch.stack((image - baseline, baseline)), norm="ortho")
        found = _power(spectra).flatten(1).to(bands.dtype) @ bands
        values = torch.cat((one, found.flatten().double())).tolist()
        finite, seen, told, energy, reference, first_seen, first_told, pixels, block = values[:9]
        change = values[9:]
        return cls(
            finite=bool(finite),
            seen=seen,
            told=told,
            energy=energy,
            baseline_energy=reference,
            seen_baseline=first_seen,
            told_baseline=first_told,
            pixels=int(pixels),
            block=block,
            change=tuple(change[: len(change) // 2]),
            signal=tuple(change[len(change) // 2 :]),
        )


def _measure(sums: _Sums, image: Tensor, data_energy: float, noise: Noise, usual: float) -> Quality:
    """All numbers."""
    seen, told, energy, reference = sums.seen, sums.told, sums.energy, sums.baseline_energy
    ratio = energy / reference if reference > 0 else (1.0 if energy == 0 else math.inf)
    missed = max(seen - 2 * told + data_energy, 0.0)
    found = math.sqrt(missed / data_energy) if data_energy > 0 else 0.0
    freedom = min(noise.samples, sums.pixels) * noise.variance
    allowed = freedom + MODEL_ERROR**2 * data_energy
    further = max(missed - usual**2 * data_energy, 0.0)
    mend = (told / seen - 1) ** 2 * seen if seen > 0 else data_energy
    expected = noise.energy + MODEL_ERROR**2 * data_energy
    # Ringing and errors of the maps spread: what is allowed is the same all over the image.
    model = MODEL_ERROR**2 * energy / image.numel()
    return Quality(
        found,
        usual,
        ratio,
        misfit=_root(further, allowed),
        brightness=_root(mend, allowed),
        # For the true image A* (A x - y) is A* of the noise, of this variance in every pixel.
        local=_root(sums.block, noise.variance * noise.share + model),
        change=_change(sums, image, noise),
        inconsistency=_root(usual**2 * data_energy, expected),
        overstated=_root(max(noise.energy - freedom, 0.0), usual**2 * data_energy),
    )


def problem_of(found: Quality, limits: GateLimits) -> tuple[str | None, str]:
    """Kind of the fault and words for it; None and nothing where all is well."""
    if not found.energy_ratio <= limits.energy:
        return (
            "wrong scale",
            f"the network's image has {found.energy_ratio:.3g} times the energy of CG-SENSE's, "
            f"allowed is {limits.energy:.3g}",
        )
    if not found.residual <= 1.0:
        return "misses the data", "the network's image explains less of the data than an empty one"
    for name, kind, words in CHECKS:
        value, limit = getattr(found, name), getattr(limits, name)
        if not value <= limit:
            return kind, (
                f"{words} by {value:.3g} times what noise and model errors explain, allowed is "
                f"{limit:.3g} (residual {found.residual:.3f})"
            )
    for band, (value, limit) in enumerate(zip(found.change, limits.change, strict=True)):
        if not value <= limit:
            return "unlike the conventional image", (
                f"the network changed CG-SENSE's image at {_range(band)} of the highest frequency "
                f"by {value:.3g} times what noise and errors explain, allowed is {limit:.3g}"
            )
    return None, ""


CHECKS = (
    ("misfit", "misses the data", "the network's image misses the data"),
    ("brightness", "wrong scale", "the network's image is too bright or too dark"),
    ("local", "misses the data", "a part of the network's image misses the data"),
    ("overstated", "wrong noise level", "the noise scan exceeds the noise of the data"),
)


def _range(band: int) -> str:
    low, high = (0.0, *BANDS)[band : band + 2]
    return f"{low:g} to {high:g}" if math.isfinite(high) else f"more than {low:g}"


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Real part of an inner product, in double precision."""
    a, b = (torch.view_as_real(v.resolve_conj()) for v in (a, b))
    return (a * b).double().sum()


def _root(energy: float, allowed: float) -> float:
    """Root of a quotient of energies; zero over zero is zero."""
    if allowed > 0:
        return math.sqrt(energy / allowed)
    return 0.0 if energy == 0 else math.inf


def _power(image: Tensor) -> Tensor:
    return torch.view_as_real(image.resolve_conj()).square().sum(-1)


def _largest_block(gap: Tensor) -> Tensor:
    """Energy of A* (A x - y) in the block of pixels where it is largest, as a mean."""
    power = _power(gap)[None]
    block = min(BLOCK, *power.shape[-2:])
    step = max(block // 2, 1)
    # Blocks that begin at the first pixel may leave out the last ones; others end with those.
    y, x = ({0, (size - block) % step} for size in power.shape[-2:])
    starts = itertools.product(y, x)
    means = [functional.avg_pool2d(power[:, a:, b:], block, step).max() for a, b in starts]
    return torch.stack(means).max()


def _change(sums: _Sums, image: Tensor, noise: Noise) -> tuple[float, ...]:
    """Change by bands of spatial frequency, beside the noise of CG-SENSE's image and its signal.

    With a geometry factor of one that noise has the variance ``s / share`` in every pixel of the
    object, and is white.
    """
    _, counts = _bands(*image.shape, image.device)
    white = noise.variance / max(noise.share, 1e-6) * sums.pixels / image.numel()
    return tuple(
        _root(f, white * n + error**2 * s)
        for f, s, n, error in zip(sums.change, sums.signal, counts, CHANGE_ERRORS, strict=True)
    )


@functools.lru_cache(maxsize=8)
def _bands(rows: int, columns: int, device: torch.device) -> tuple[Tensor, tuple[float, ...]]:
    """Bands of the frequencies: ones and zeros `rows*columns bands` in FFT order; their sums."""
    y, x = (torch.fft.fftfreq(n) * 2 for n in (rows, columns))
    radius = torch.hypot(y[:, None], x[None, :]).flatten()
    inside = radius[:, None] < torch.tensor(BANDS)
    first = (inside.cumsum(1) == 1).float()
    return first.to(device), tuple(first.sum(0).tolist())
