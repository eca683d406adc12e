"""The target that the student imitates: the teacher's image without the errors it is known to make.

T~ = w T + (1 - w) x*, with w in each pixel from the teacher's own error. An error that the student
does not make itself, or one at an edge, costs the teacher more of its word.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from chpnet_training.losses import edges, magnitude

NEIGHBOURHOOD = 5
"""Pixels along each axis over which errors are averaged: one pixel's noise says nothing."""


@dataclass
class Corrected:
    """A corrected target.

    Attributes:
        target: T~, `batch channels y x`.
        trust: w, `batch 1 y x`, in 0..1.
        share: Share of the teacher's energy of error that was taken away, `batch`.
    """

    target: Tensor
    trust: Tensor
    share: Tensor


def local_error(image: Tensor, truth: Tensor, edge_weight: float = 1.0) -> Tensor:
    """Error energy around each pixel, `batch 1 y x`.

    Args:
        image: `batch channels y x`.
        truth: `batch channels y x`.
        edge_weight: How much an error of the edges counts beside one of the image.
    """
    energy = (image - truth).square().sum(dim=1, keepdim=True)
    if edge_weight > 0:
        wrong_edges = edges(magnitude(image)) - edges(magnitude(truth))
        energy = energy + edge_weight * wrong_edges.square().sum(dim=1, keepdim=True)
    return functional.avg_pool2d(
        energy, NEIGHBOURHOOD, stride=1, padding=NEIGHBOURHOOD // 2, count_include_pad=False
    )


def correct(teacher: Tensor, student: Tensor, truth: Tensor, edge_weight: float = 1.0) -> Corrected:
    """Mix the truth into the teacher's image where the teacher is worse than its student.

    w = min(1, e_S / e_T) with the error energies e_S and e_T around the pixel: the teacher has its
    full word where it is nearer to the truth than the student is, and the less of it the further it
    falls behind its own student. (Weights that mix the truth in everywhere, such as
    e_S / (e_S + e_T), were tried: they bring back the part of the truth that nobody can know from
    the data, and with it the noise in the gradient that teaching takes away.)

    Args:
        teacher: T, `batch channels y x`.
        student: S, `batch channels y x`.
        truth: x*, `batch channels y x`.
        edge_weight: How much errors of edges count.
    """
    wrong_teacher = local_error(teacher, truth, edge_weight)
    wrong_student = local_error(student, truth, edge_weight)
    trust = ((wrong_student + 1e-12) / (wrong_teacher + 1e-12)).clamp_max(1.0)
    target = truth + trust * (teacher - truth)
    before = (teacher - truth).square().sum(dim=(1, 2, 3))
    after = (target - truth).square().sum(dim=(1, 2, 3))
    return Corrected(target, trust, 1 - after / (before + 1e-20))
