"""How far a network may trust itself on images of another kind than it was trained on.

Training images are pictures: smoother than what a scanner measures. A network trained on them
believes too much in its own proposals. What it is told of the noise sets the balance between
proposal and data, so one number, chosen on a complex image that is neither trained on nor
tested on, corrects it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from chpnet_stream.engines.engine import Engine, Problem
from chpnet_stream.errors import InputError
from chpnet_stream.network.normal import ColumnNormal, to_channels, to_complex
from chpnet_stream.physics.classical import cg_sense
from chpnet_stream.physics.coils import combine, espirit
from chpnet_stream.physics.fourier import fft, ifft, resize_centred
from chpnet_stream.physics.operators import ColumnSense
from chpnet_stream.physics.sampling import calibration_range, equispaced_mask
from chpnet_stream.simulation.coils import loop_coil_maps
from chpnet_training.bart import read_cfl
from chpnet_training.scoring import psnr

FACTORS = (0.125, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4)
ACCELERATIONS = (3, 4, 6)
NOISE_LEVELS = (0.004, 0.012, 0.03)
COILS = 8
CALIBRATION_LINES = 24


@dataclass(frozen=True)
class FactorScore:
    """Mean PSNR in dB of one factor, over accelerations and noise levels."""

    factor: float
    psnr: float


def read_complex_image(path: Path) -> Tensor:
    """A complex image `y x`, complex64, from a BART pair (`.cfl`, `.hdr`) or a `.npy` file.

    Raises:
        InputError: If it can't be read or has not two axes.
    """
    try:
        if path.suffix == ".npy":
            image = np.load(path, allow_pickle=False)
        else:
            image = read_cfl(path.with_suffix(""))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: expected a complex image (.cfl or .npy), found: {error}"
        ) from error
    image = np.squeeze(image)
    if image.ndim != 2 or not np.iscomplexobj(image):
        raise InputError(
            f"{path}: expected one complex image of two axes, found {image.dtype} {image.shape}"
        )
    return torch.from_numpy(np.ascontiguousarray(image, dtype=np.complex64))


def tune(
    engine: Engine,
    image: Tensor,
    factors: Sequence[float] = FACTORS,
    progress: Callable[[int, int], None] | None = None,
) -> list[FactorScore]:
    """Score noise factors on simulated scans of one image.

    Args:
        engine: The model; its own factor is not used.
        image: Complex `y x`, with the phase that was measured.
        factors: What to try.
        progress: Called with the scans done and the scans to do.

    Returns:
        Scores in the order of the factors.
    """
    rng = np.random.default_rng(0)
    rows, columns = (n // 8 * 8 for n in image.shape)
    image = resize_centred(image, (rows, columns))
    image = image / torch.quantile(image.abs().flatten(), 0.99)
    fov = (200.0, 200.0 * columns / rows)
    maps = torch.from_numpy(loop_coil_maps(COILS, (rows, columns), fov, rng=rng))
    found: dict[float, list[float]] = {factor: [] for factor in factors}
    done, total = 0, len(ACCELERATIONS) * len(NOISE_LEVELS)
    for acceleration in ACCELERATIONS:
        for level in NOISE_LEVELS:
            start, adjoint, operator, target = _scan(image * maps, acceleration, level, rng)
            for factor in factors:
                noise = torch.full((1, 1, 1, 1), factor * level)
                problem = Problem(
                    to_channels(start[None]),
                    to_channels(adjoint[None]),
                    ColumnNormal(operator),
                    noise,
                )
                made = to_complex(engine.run(problem))[0].abs()
                found[factor].append(psnr(made.numpy(), target.abs().numpy()))
            done += 1
            if progress is not None:
                progress(done, total)
    return [FactorScore(factor, float(np.mean(found[factor]))) for factor in factors]


def _scan(
    clean: Tensor, acceleration: int, level: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor, ColumnSense, Tensor]:
    """Start, A* y, A* A and truth of a simulated scan of coil images `coils y x`."""
    from chpnet_training.dataset import START_ITERATIONS, START_REGULARIZATION

    coils, rows, columns = clean.shape
    white = rng.standard_normal((coils, rows, columns, 2)).astype(np.float32)
    measured = fft(clean) + level * torch.view_as_complex(torch.from_numpy(white))
    lines = calibration_range(rows, CALIBRATION_LINES)
    samples = calibration_range(columns, CALIBRATION_LINES)
    block = measured[:, lines.start : lines.stop, samples.start : samples.stop]
    maps = espirit(block, (rows, columns)).maps
    mask = equispaced_mask(rows, acceleration, CALIBRATION_LINES).float()
    operator = ColumnSense(maps, mask)
    adjoint = combine(ifft(measured * mask[:, None]), maps)
    start = cg_sense(
        operator.normal,
        adjoint,
        regularization=START_REGULARIZATION,
        iterations=START_ITERATIONS,
        tolerance=0.0,
    )
    return start, adjoint, operator, combine(clean, maps)
