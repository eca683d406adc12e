"""How near two magnitude images are: PSNR and SSIM after a least-squares scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

WINDOW = 7


@dataclass(frozen=True)
class Similarity:
    """Scores of an image against a reference.

    Attributes:
        psnr: In dB, with the reference's maximum as peak; NaN where pixels are no numbers.
        ssim: Mean structural similarity; NaN for images smaller than its window.
        scale: Factor that the image was multiplied with (least squares).
    """

    psnr: float
    ssim: float
    scale: float


def ssim_map(x: Tensor, target: Tensor, data_range: Tensor) -> Tensor:
    """SSIM with a uniform 7 x 7 window (Wang et al., IEEE Trans Image Process 2004;13:600).

    Args:
        x: Magnitude image `batch 1 y x`.
        target: Reference `batch 1 y x`.
        data_range: Dynamic range of every reference, `batch 1 1 1`.

    Returns:
        `batch 1 y-6 x-6`, at most one; K1 = 0.01, K2 = 0.03, sample covariance.
    """
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    moments = functional.avg_pool2d(
        torch.cat([x, target, x * x, target * target, x * target], dim=1), WINDOW, stride=1
    )
    mx, mt, xx, tt, xt = moments.split(1, dim=1)
    vx, vt, vxt = unbiased * (xx - mx * mx), unbiased * (tt - mt * mt), unbiased * (xt - mx * mt)
    return ((2 * mx * mt + c1) * (2 * vxt + c2)) / ((mx * mx + mt * mt + c1) * (vx + vt + c2))


def compare(image: np.ndarray, reference: np.ndarray) -> Similarity:
    """Scores of a magnitude image against a reference of other units.

    Args:
        image: `y x`.
        reference: `y x`.

    Raises:
        ValueError: If the shapes differ.
    """
    if image.shape != reference.shape:
        raise ValueError(f"expected images of one shape, found {image.shape}, {reference.shape}")
    x, target = image.astype(np.float64), reference.astype(np.float64)
    energy = float((x * x).sum())
    scale = float((x * target).sum()) / energy if energy > 0 else 0.0
    with np.errstate(invalid="ignore"):  # pixels that are no numbers give no score
        scaled = scale * x
        error = float(((scaled - target) ** 2).mean())
    peak = float(target.max())
    psnr = math.inf
    if not math.isfinite(error):
        psnr = math.nan
    elif error > 0 and peak > 0:
        psnr = 10 * math.log10(peak**2 / error)
    a, b = (torch.from_numpy(v)[None, None] for v in (scaled, target))
    ssim = math.nan
    if min(image.shape) >= WINDOW and peak > 0:
        ssim = float(ssim_map(a, b, torch.full((1, 1, 1, 1), peak, dtype=a.dtype)).mean())
    return Similarity(psnr, ssim, scale)
