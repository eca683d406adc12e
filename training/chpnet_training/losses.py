"""Differentiable distances between images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from chpnet_stream.similarity import ssim_map


def magnitude(x: Tensor) -> Tensor:
    """Magnitude `batch 1 y x` of `batch channels y x`, with a gradient at zero."""
    return torch.sqrt(x.square().sum(dim=1, keepdim=True) + 1e-10)


def charbonnier(x: Tensor, target: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Smooth L1 distance of images `batch channels y x` (Charbonnier et al. 1994); `batch`."""
    distance = torch.sqrt((x - target).square().sum(dim=1) + epsilon**2)
    return distance.mean(dim=(1, 2)) - epsilon


def edges(x: Tensor) -> Tensor:
    """Scharr gradients `batch 2 y x` of a magnitude image `batch 1 y x`, differentiable."""
    smooth, difference = x.new_tensor([3.0, 10.0, 3.0]) / 16, x.new_tensor([-0.5, 0.0, 0.5])
    kernel = torch.stack([torch.outer(difference, smooth), torch.outer(smooth, difference)])
    return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), kernel[:, None])


def structural_similarity(x: Tensor, target: Tensor, data_range: Tensor) -> Tensor:
    """Mean of `chpnet_stream.similarity.ssim_map`, with a gradient.

    Args:
        x: Magnitude image `batch 1 y x`.
        target: The truth, `batch 1 y x`.
        data_range: Dynamic range of every image, `batch 1 1 1`.

    Returns:
        Mean of every image, `batch`, at most one.
    """
    return ssim_map(x, target, data_range).mean(dim=(1, 2, 3))


def image_loss(
    x: Tensor, target: Tensor, *, edge_weight: float = 0.3, ssim_weight: float = 0.1
) -> dict[str, Tensor]:
    """Distance of images, in units in which the object is about one.

    Args:
        x: Reconstruction `batch channels y x`.
        target: Truth, or what a teacher makes of it, `batch channels y x`.
        edge_weight: Weight of the L1 distance of the edges of the magnitudes.
        ssim_weight: Weight of 1 - SSIM of the magnitudes.

    Returns:
        The terms `image`, `edge`, `ssim` and their weighted sum under `loss`, each `batch`.
    """
    mx, mt = magnitude(x), magnitude(target)
    image = charbonnier(x, target) + 0.5 * (mx - mt).abs().mean(dim=(1, 2, 3))
    edge = (edges(mx) - edges(mt)).abs().mean(dim=(1, 2, 3))
    total = image + edge_weight * edge
    ssim = image.new_zeros(len(x))
    if ssim_weight > 0:
        peak = mt.amax(dim=(1, 2, 3), keepdim=True).clamp_min(0.5)
        ssim = structural_similarity(mx, mt, peak)
        total = total + ssim_weight * (1 - ssim)
    return {"loss": total, "image": image, "edge": edge, "ssim": ssim}
