"""Training samples of the `superres` task: magnitude images and their block averages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor
from torch.nn import functional

from chpnet_stream.network.config import Measured
from chpnet_stream.network.normal import SuperresNormal


class SuperresConfig(BaseModel):
    """Ranges from which every sample of the `superres` task is drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    matrix: int = Field(128, ge=16, description="rows and columns of the image that is wanted")
    factors: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (2, 4), min_length=1, description="pixels per measured pixel; they divide the matrix"
    )
    noise: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = Field(
        (0.005, 0.005),
        description="standard deviation of the measured pixels over the 99th percentile: from, to",
    )

    measured: Measured = Field(
        "blocks", description="pixels are means of blocks, or images of the centre of k-space"
    )

    @field_validator("noise", mode="before")
    @classmethod
    def _one_number(cls, found: Any) -> Any:
        """One number stands for a range of nothing else."""
        return (found, found) if isinstance(found, int | float) else found

    @field_validator("noise")
    @classmethod
    def _ordered(cls, found: tuple[float, float]) -> tuple[float, float]:
        if found[0] > found[1]:
            raise ValueError(f"expected a range upwards, found one from {found[0]} to {found[1]}")
        return found

    @model_validator(mode="after")
    def _factors_fit(self) -> SuperresConfig:
        for factor in self.factors:
            if self.matrix % factor:
                raise ValueError(
                    f"expected a matrix that {factor} (of factors) divides, found {self.matrix}"
                )
        return self


@dataclass
class SuperresSample:
    """One image, ready to be averaged.

    Attributes:
        target: Magnitude image `y x`, its 99th percentile at one.
        low: Measured image `y/factor x/factor`.
        factor: Pixels along each axis of a measured pixel.
        noise: Standard deviation of `low`, in the same units.
        measured: How `low` was measured.
    """

    target: Tensor
    low: Tensor
    factor: int
    noise: float
    measured: Measured = "blocks"


def superres_sample(
    magnitude: np.ndarray, config: SuperresConfig, factor: int, rng: np.random.Generator
) -> SuperresSample:
    """Fit an image into the square matrix, turn it at random, measure it coarsely, add noise.

    Args:
        magnitude: Image `y x`, 0 to about 1.
        config: Matrix and noise.
        factor: Pixels along each axis of a measured pixel.
        rng: Source of all randomness.
    """
    source = torch.from_numpy(np.ascontiguousarray(magnitude, dtype=np.float32))
    size = config.matrix
    scale = size / max(source.shape)
    shape = [max(8, round(n * scale)) for n in source.shape]
    fitted = functional.interpolate(
        source[None, None], size=shape, mode="bicubic", antialias=True, align_corners=False
    )[0, 0].clamp_min(0)
    above, left = ((size - n) // 2 for n in shape)
    image = torch.zeros(size, size)
    image[above : above + shape[0], left : left + shape[1]] = fitted
    image = torch.rot90(image, int(rng.integers(4)))
    if rng.random() < 0.5:
        image = image.flip(1)
    image = image / torch.quantile(image.flatten(), 0.99).clamp_min(1e-3)
    low = SuperresNormal(factor, config.measured).forward(image)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    least, most = config.noise
    noise = float(rng.uniform(least, most)) if most > least else least
    low = low + noise * torch.randn(low.shape, generator=generator)
    if config.measured == "centre":
        low = low.abs()  # a magnitude image, as scans give it
    return SuperresSample(image.contiguous(), low, factor, noise, config.measured)
