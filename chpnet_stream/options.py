"""Settings of a reconstruction: one schema for the command line and for every other door."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ReconstructionOptions(BaseModel):
    """What to reconstruct, by what, and how the images are told to the peer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["chpnet", "cg-sense", "zero-filled", "rss"] = Field(
        "chpnet", description="reconstruction that is sent"
    )
    model: str = Field("chpnet-rt", description="name of an installed model, or a card (.json)")
    engine: Literal["auto", "onnx", "pytorch"] = Field("auto", description="inference engine")
    virtual_coils: int = Field(8, ge=1, le=64, description="most coils after compression")
    series: int = Field(1, ge=1, le=65535, description="image_series_index of the images")
    flip_rows: bool = Field(False, description="reverse the order of image rows")
    flip_columns: bool = Field(False, description="reverse the order of image columns")
