"""Feature transfer between architectures, in a common space of images.

Features of attention and of convolution do not share coordinates: comparing them directly makes the
student copy the teacher's architecture, not its knowledge. As in one-for-all distillation (Hao et
al., arXiv 2310.19444, which projects features to logits), both are projected to what they say about
the task: the image that the network would give if it stopped here. The teacher's projection learns
that from the truth, so the common space can't collapse; the student's learns to say the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chpnet_training.losses import charbonnier

Steps = list[tuple[Tensor, Tensor]]
"""Of every iteration: the image that it begins with, and its features."""


class Projection(nn.Module):
    """Features `batch width y/fold x/fold` to an image `batch channels y x`.

    Args:
        width: Channels of the features.
        channels: Channels of the image.
        fold: Pixels along each axis behind one feature.
    """

    def __init__(self, width: int, channels: int, fold: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, channels * fold**2, 1)
        self.shuffle = nn.PixelShuffle(fold)
        with torch.no_grad():  # at first, both say what they began with
            for parameter in self.project.parameters():
                parameter.zero_()

    def forward(self, features: Tensor, rows: int, columns: int) -> Tensor:
        """Project, and cut the padding below and to the right."""
        image: Tensor = self.shuffle(self.project(features))
        return image[..., :rows, :columns]


class CommonSpace(nn.Module):
    """Projections of the student's and of the teacher's features of every student iteration.

    The student's iteration t is paired with the teacher's at the same share of the way.

    Args:
        student_width: Channels of the student's finest features.
        student_fold: Its pixels per feature.
        student_iterations: Its iterations.
        teacher_width: Channels of the teacher's features.
        teacher_fold: Its pixels per token.
        teacher_iterations: Its iterations.
        channels: Image channels.
    """

    def __init__(
        self,
        student_width: int,
        student_fold: int,
        student_iterations: int,
        teacher_width: int,
        teacher_fold: int,
        teacher_iterations: int,
        channels: int,
    ) -> None:
        super().__init__()
        self.pairs = [
            max(round((t + 1) * teacher_iterations / student_iterations), 1) - 1
            for t in range(student_iterations)
        ]
        self.student = nn.ModuleList(
            Projection(student_width, channels, student_fold) for _ in range(student_iterations)
        )
        self.teacher = nn.ModuleList(
            Projection(teacher_width, channels, teacher_fold) for _ in range(teacher_iterations)
        )

    def forward(self, student: Steps, teacher: Steps, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Compare features in the common space.

        Args:
            student: Of every iteration the image that it began with and its features; the
                gradient of the transfer goes here.
            teacher: The same of the teacher; no gradient goes here.
            truth: `batch channels y x`: what the space is anchored to.

        Returns:
            The transfer loss of the student, and the loss of the anchor; each `batch`.
        """
        rows, columns = truth.shape[2:]
        said = [
            begun.detach() + project(features.detach(), rows, columns)
            for project, (begun, features) in zip(self.teacher, teacher, strict=True)
        ]
        anchor = torch.stack([charbonnier(image, truth) for image in said]).mean(dim=0)
        heard = [
            begun + project(features, rows, columns)
            for project, (begun, features) in zip(self.student, student, strict=True)
        ]
        transfer = torch.stack(
            [
                charbonnier(image, said[pair].detach())
                for image, pair in zip(heard, self.pairs, strict=True)
            ]
        ).mean(dim=0)
        return transfer, anchor
