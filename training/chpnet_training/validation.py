"""Scores of a network on simulated slices that it never trains on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from chpnet_stream.network.normal import Normal
from chpnet_training.dataset import Batch, Slices, collate
from chpnet_training.losses import magnitude, structural_similarity

SCORES = ("psnr", "ssim", "nmse")

Network = Callable[[Tensor, Tensor, Normal, Tensor], Tensor]
"""A network or engine: start, adjoint, normal, noise to image."""


def batches_of(
    slices: Slices, count: int, size: int, device: torch.device | str = "cpu"
) -> list[Batch]:
    """The first `count` slices, `size` of them in a batch."""
    numbers = range(count)
    return [
        collate([sample for i in numbers[at : at + size] for sample in slices[i]], device)
        for at in range(0, count, size)
    ]


def psnr(x: Tensor, target: Tensor) -> Tensor:
    """PSNR in dB of magnitude images `batch 1 y x`, peak = the target's maximum; `batch`."""
    error = (x - target).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(target.amax(dim=(1, 2, 3)).square() / error.clamp_min(1e-20))


def psnr_of(image: Tensor, target: Tensor) -> Tensor:
    """`psnr` of the magnitudes of `batch channels y x`."""
    return psnr(magnitude(image), magnitude(target))


def nmse(x: Tensor, target: Tensor) -> Tensor:
    """Normalised mean square error of magnitude images `batch 1 y x`; `batch`."""
    return (x - target).square().sum(dim=(1, 2, 3)) / target.square().sum(dim=(1, 2, 3))


@torch.no_grad()
def score_images(image: Tensor, target: Tensor) -> dict[str, Tensor]:
    """PSNR (dB), SSIM and NMSE of the magnitudes of `batch channels y x`; each `batch`."""
    found, truth = magnitude(image), magnitude(target)
    peak = truth.amax(dim=(1, 2, 3), keepdim=True)
    return {
        "psnr": psnr(found, truth),
        "ssim": structural_similarity(found, truth, peak),
        "nmse": nmse(found, truth),
    }


@torch.no_grad()
def validate(
    network: Network, batches: list[Batch], add_up: Callable[[Tensor], Tensor] | None = None
) -> dict[str, float]:
    """Mean PSNR, SSIM and NMSE of a network, and of the images that it starts from (`start_...`).

    Args:
        network: What to score.
        batches: Images `batch channels y x` with their truth.
        add_up: Adds float64 `7` over devices, where each of them scores batches of its own.
    """
    sums = torch.zeros(2 * len(SCORES) + 1, dtype=torch.float64)
    for batch in batches:
        made = network(batch.start, batch.adjoint, batch.normal, batch.noise)
        for place, image in enumerate((made, batch.start)):
            scores = score_images(image, batch.target)
            for i, name in enumerate(SCORES):
                sums[place * len(SCORES) + i] += scores[name].double().sum().cpu()
        sums[-1] += len(made)
    total = sums if add_up is None else add_up(sums)
    means = (total[:-1] / total[-1]).tolist()
    return dict(zip([*SCORES, *(f"start_{name}" for name in SCORES)], means, strict=True))
