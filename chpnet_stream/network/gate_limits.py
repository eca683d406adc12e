"""Limits of the quality gate: how far a model's images may be from the data."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field

BANDS = (0.125, 0.25, 0.5, math.inf)
"""Upper ends of the bands of spatial frequency, relative to the highest along each axis."""


class GateLimits(BaseModel):
    """Part of a model card, set by `chpnet-train gate`; what a card without it has by default.

    The defaults are wide: they stop what is plainly wrong. `quality.Quality` says what is limited.

    Attributes:
        energy: Energy relative to CG-SENSE's.
        misfit: How much further than CG-SENSE's from the data.
        brightness: Misfit that another brightness would mend.
        local: Misfit in one block of pixels.
        overstated: Noise by the noise scan beside what the data have.
        change: Change from CG-SENSE's image in every band of `BANDS`.
        inconsistency: CG-SENSE's own distance from the data; beyond, images are only marked.
        slices: Good slices that the limits were set by; 0 for the defaults.
        margin: Factor from the largest value of these to the limit.
        data: Checksum of the file of the pictures behind the slices.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    energy: float = Field(2.0, gt=0)
    misfit: float = Field(3.0, gt=0)
    brightness: float = Field(2.0, gt=0)
    local: float = Field(20.0, gt=0)
    overstated: float = Field(4.0, gt=0)
    change: tuple[float, float, float, float] = (10.0, 10.0, 10.0, 10.0)
    inconsistency: float = Field(4.0, gt=0)
    slices: int = Field(0, ge=0)
    margin: float = Field(1.0, gt=0)
    data: str = ""
