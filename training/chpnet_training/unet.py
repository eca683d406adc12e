"""The baseline that everybody knows: a plain U-Net on the starting image, without the data."""

from __future__ import annotations

import itertools
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional


class UNetConfig(BaseModel):
    """Size of the plain U-Net (Ronneberger et al., arXiv 1505.04597)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (32, 64, 128, 256), min_length=2, description="channels of every level, finest first"
    )


class UNet(nn.Module):
    """Two 3 x 3 convolutions a level, pooling down, transposed convolutions up, residual output.

    It sees what the student sees at first (the start image and the noise level), and never the
    data again.

    Args:
        config: Channels of every level.
        task: `kspace` (two channels) or `superres` (one).
    """

    def __init__(self, config: UNetConfig, task: str = "kspace") -> None:
        super().__init__()
        self.config = config
        c, widths = (2 if task == "kspace" else 1), config.widths
        self.downs = nn.ModuleList(_pair(a, b) for a, b in itertools.pairwise((c + 1, *widths)))
        ups = list(itertools.pairwise(reversed(widths)))
        self.ups = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in ups)
        self.fuses = nn.ModuleList(_pair(2 * b, b) for _, b in ups)
        self.tail = nn.Conv2d(widths[0], c, 1)

    def forward(self, start: Tensor, adjoint: Tensor, normal: object, noise: Tensor) -> Tensor:
        """Arguments and result as in `chpnet_stream.network.chpnet.Student`."""
        unit = start.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-12
        rows, columns = start.shape[2:]
        multiple = 2 ** (len(self.config.widths) - 1)
        x = torch.cat([start / unit, 4.0 * (noise / unit).expand(-1, 1, rows, columns)], dim=1)
        x = functional.pad(x, (0, -columns % multiple, 0, -rows % multiple))
        skips = []
        for level, down in enumerate(self.downs):
            x = down(functional.avg_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for up, fuse in zip(self.ups, self.fuses, strict=True):
            x = fuse(torch.cat([up(x), skips.pop()], dim=1))
        return start + unit * self.tail(x)[..., :rows, :columns]


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.1),
    )
