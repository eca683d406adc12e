"""The teacher: windowed attention between the same data-consistency steps as the student.

Knowledge has to cross from attention to convolution, never from one physics to another: the
teacher is unrolled as CHPNetRT is, from the same start, around the same A* A.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from chpnet_stream.network.chpnet import consistent_step
from chpnet_stream.network.normal import Normal
from chpnet_training.gates import Gates
from chpnet_training.swin import SwinBlock


class TeacherConfig(BaseModel):
    """Architecture of the teacher. The defaults train on two CPU cores."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    width: int = Field(32, ge=4, description="channels of the tokens")
    heads: int = Field(2, ge=1, description="attention heads; they divide the width")
    blocks: int = Field(4, ge=1, description="attention blocks in each iteration")
    window: int = Field(8, ge=2, description="side of the attention windows, in tokens")
    ratio: float = Field(2.0, gt=0, description="hidden channels of the MLP over the width")
    iterations: int = Field(3, ge=1, description="unrolled iterations, each with its own weights")
    fold: int = Field(2, ge=1, description="pixels along each axis that make one token")
    cg_steps: int = Field(3, ge=1, description="conjugate-gradient steps for data consistency")

    @model_validator(mode="after")
    def _heads_fit(self) -> TeacherConfig:
        if self.width % self.heads:
            raise ValueError(f"expected a width that {self.heads} heads divide, found {self.width}")
        if int(self.width * self.ratio) < 1:
            raise ValueError(
                f"expected a ratio of at least 1 / width = {1 / self.width:g}, found {self.ratio}: "
                "it leaves no hidden channel"
            )
        return self


class SwinStage(nn.Module):
    """The network of one iteration: a residual group of windowed attention.

    Args:
        inputs: Image channels in.
        outputs: Image channels out.
        config: Sizes.
        state: Whether the features of the iteration before come in as well.
    """

    def __init__(self, inputs: int, outputs: int, config: TeacherConfig, *, state: bool) -> None:
        super().__init__()
        width, fold = config.width, config.fold**2
        self.config = config
        self.unshuffle = nn.PixelUnshuffle(config.fold)
        self.shuffle = nn.PixelShuffle(config.fold)
        self.head = nn.Conv2d(inputs * fold + (width if state else 0), width, 3, padding=1)
        self.blocks = nn.ModuleList(
            SwinBlock(
                width, config.heads, config.window, (i % 2) * (config.window // 2), config.ratio
            )
            for i in range(config.blocks)
        )
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Conv2d(width, outputs * fold, 3, padding=1)
        with torch.no_grad():
            self.tail.weight.mul_(0.1)

    def forward(self, x: Tensor, state: Tensor | None, gates: Tensor) -> tuple[Tensor, Tensor]:
        """Image `batch inputs y x` to image `batch outputs y x` and features.

        Args:
            x: Any matrix; it is padded to whole windows inside.
            state: Features of the iteration before, or None in the first one.
            gates: Gates of the blocks, `blocks`. A block whose gate is 0 is not computed.
        """
        rows, columns = x.shape[2:]
        multiple = self.config.fold * self.config.window
        padded = functional.pad(x, (0, -columns % multiple, 0, -rows % multiple))
        folded = self.unshuffle(padded)
        if state is not None:
            folded = torch.cat([folded, state], dim=1)
        shallow = self.head(folded)
        deep = shallow.permute(0, 2, 3, 1)
        for block, gate, is_open in zip(self.blocks, gates, (gates > 0).tolist(), strict=True):
            if is_open:
                deep = block(deep, gate)
        features = shallow + self.mix(self.norm(deep).permute(0, 3, 1, 2))
        image = self.shuffle(self.tail(functional.leaky_relu(features, 0.1)))
        return image[..., :rows, :columns], features


class SwinTeacher(nn.Module):
    """Vision-transformer image restoration, unrolled around the task's A* A.

    Inputs are scaled to a root mean square of one and the outputs back, so that the answer does
    not depend on the units, as the student's does not.

    Args:
        config: Sizes.
        task: `kspace` (complex images, two channels) or `superres` (magnitudes, one).
    """

    def __init__(self, config: TeacherConfig, task: str = "kspace") -> None:
        super().__init__()
        self.config, self.task = config, task
        c = 2 if task == "kspace" else 1
        self.stages = nn.ModuleList(
            SwinStage(2 * c + 1, c + 1, config, state=t > 0) for t in range(config.iterations)
        )
        self.gates = Gates(config.iterations * config.blocks)
        self.trust = nn.Parameter(torch.tensor([[0.5, 1.0]] * config.iterations))

    def forward(self, start: Tensor, adjoint: Tensor, normal: Normal, noise: Tensor) -> Tensor:
        """Reconstruct; arguments and result as in `chpnet_stream.network.chpnet.Student`."""
        for made, _ in self.unroll(start, adjoint, normal, noise):
            start = made
        return start

    def unroll(
        self, start: Tensor, adjoint: Tensor, normal: Normal, noise: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The iterations of `forward`.

        Yields:
            The image after the iteration, `batch channels y x`, and the features behind it,
            `batch width y/fold x/fold` (of the padded matrix).
        """
        unit = start.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-12
        start, adjoint, sigma = start / unit, adjoint / unit, noise / unit
        sigma = sigma.expand(-1, 1, *start.shape[2:])
        gates = self.gates().view(self.config.iterations, -1)
        x = start
        state: Tensor | None = None
        for t, stage in enumerate(self.stages):
            out, state = stage(torch.cat([x, start, 4.0 * sigma], dim=1), state, gates[t])
            x = consistent_step(x, out, sigma, self.trust[t], adjoint, normal, self.config.cg_steps)
            yield x * unit, state
