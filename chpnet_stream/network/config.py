"""Architecture of a student, in words that a model card can hold; without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Measured = Literal["blocks", "centre"]
"""What pixels of the `superres` task are: means of blocks, or images of the centre of k-space."""


class StudentConfig(BaseModel):
    """Architecture of a student, as it stands in a model card.

    Bounds are far beyond what is of use: a damaged card must not take all memory, or all day.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Literal["chpnet", "chpnet-rt"] = Field(
        "chpnet-rt", description="the paper's network, or the one made for real time"
    )
    task: Literal["kspace", "superres"] = Field(
        "kspace", description="parallel imaging, or magnitude images of too few pixels"
    )
    widths: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        (32, 64, 96),
        min_length=2,
        max_length=8,
        description="channels of every level, finest first",
    )
    blocks: int = Field(1, ge=1, le=64, description="residual blocks at each level")
    iterations: int = Field(3, ge=1, le=100, description="unrolled iterations")
    unshuffle: int = Field(
        2, ge=1, le=16, description="pixels along each axis folded into channels"
    )
    cg_steps: int = Field(
        3, ge=1, le=100, description="conjugate-gradient steps of an iteration (chpnet-rt)"
    )
    up_kernel: Literal[1, 3] = Field(1, description="kernel of the sub-pixel convolutions")

    @property
    def channels(self) -> int:
        """Image channels: two for complex images, one for magnitudes."""
        return 2 if self.task == "kspace" else 1

    @property
    def multiple(self) -> int:
        """What rows and columns of a denoiser's input are padded to a multiple of."""
        return int(self.unshuffle * 2 ** (len(self.widths) - 1))

    @classmethod
    def paper(cls, task: Literal["kspace", "superres"] = "kspace") -> StudentConfig:
        """The paper-size network: 64 channels, four levels, six iterations."""
        return cls(
            architecture="chpnet",
            task=task,
            widths=(64, 64, 64, 64),
            blocks=1,
            iterations=6,
            unshuffle=1,
            cg_steps=1,
            up_kernel=3,
        )
