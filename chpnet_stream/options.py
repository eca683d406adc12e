"""Settings of a reconstruction: one schema for the command line and for every other door."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chpnet_stream.errors import ConfigurationError


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
    deadline_ms: float = Field(
        0.0,
        ge=0,
        description="time from a slice's last readout to its image, after which the conventional "
        "image is sent; 0: no deadline",
    )
    on_error: Literal["fallback", "error", "baseline-only"] = Field(
        "fallback",
        description="when the network fails on a slice: send the conventional image, end the scan "
        "with an error, or send conventional images from there on",
    )
    send_baseline: bool = Field(
        False, description="send the conventional images too, as a series of their own"
    )
    baseline_series: int = Field(
        2, ge=1, le=65535, description="image_series_index of the conventional images"
    )
    image_type: Literal["magnitude", "complex"] = Field(
        "magnitude", description="magnitudes, or complex images with their phase"
    )
    dtype: Literal["float32", "uint16"] = Field("float32", description="pixels of magnitudes")

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> ReconstructionOptions:
        """Options from the properties of a configuration; those not named have their defaults.

        Raises:
            ConfigurationError: An unknown property (the near name is told), or a bad value.
        """
        for name in properties:
            if name not in cls.model_fields:
                near = difflib.get_close_matches(name, cls.model_fields, n=1)
                known = ", ".join(cls.model_fields)
                hint = f"did you mean '{near[0]}'?" if near else f"there are: {known}"
                raise ConfigurationError(f"unknown property '{name}', {hint}")
        try:
            return cls.model_validate(dict(properties))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the properties"
            raise ConfigurationError(
                f"property {where}: found '{first['input']}', expected: {first['msg']}; fix the "
                "configuration"
            ) from error
