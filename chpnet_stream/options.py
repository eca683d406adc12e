"""Settings of a reconstruction as the program holds them; `schema` describes each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.near import hint, nearest
from chpnet_stream.schema import SETTINGS, Setting


def _as_described(name: str) -> Any:
    """Default, limits and description of a field, from the schema."""
    setting = SETTINGS[name]
    limits: dict[str, Any] = {}
    if isinstance(setting.default, str):
        limits = {} if setting.choices else {"min_length": 1}
    elif not isinstance(setting.default, bool):
        limits = {"ge": setting.least, "le": setting.most}
    if isinstance(setting.default, float):
        limits["allow_inf_nan"] = False
    return Field(setting.default, description=setting.description, **limits)


class ReconstructionOptions(BaseModel):
    """What to reconstruct, by what, and how the images are told to the peer.

    The fields are described in `chpnet_stream.schema.SETTINGS`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["chpnet", "cg-sense", "zero-filled", "rss"] = _as_described("method")
    model: str = _as_described("model")
    engine: Literal["auto", "onnx", "openvino", "pytorch", "tensorrt", "tensorrt-rtx"] = (
        _as_described("engine")
    )
    precision: Literal["auto", "fp32", "fp16", "bf16", "int8"] = _as_described("precision")
    deadline_ms: float = _as_described("deadline_ms")
    wake_ms: float = _as_described("wake_ms")
    on_error: Literal["fallback", "error", "baseline-only"] = _as_described("on_error")
    send_baseline: bool = _as_described("send_baseline")
    series: int = _as_described("series")
    baseline_series: int = _as_described("baseline_series")
    image_type: Literal["magnitude", "complex"] = _as_described("image_type")
    dtype: Literal["float32", "uint16"] = _as_described("dtype")
    scale: int = _as_described("scale")
    virtual_coils: int = _as_described("virtual_coils")
    image_matrix: Literal["recon", "encoded"] = _as_described("image_matrix")
    flip_rows: bool = _as_described("flip_rows")
    flip_columns: bool = _as_described("flip_columns")

    @model_validator(mode="after")
    def _fit_together(self) -> ReconstructionOptions:
        """Refuse settings that can't be had together.

        Raises:
            ConfigurationError: As said.
        """
        if self.image_type == "complex" and self.dtype == "uint16":
            raise ConfigurationError(
                "found image_type=complex with dtype=uint16, expected float32 for complex images; "
                "leave one of them out"
            )
        if self.send_baseline and self.series == self.baseline_series:
            raise ConfigurationError(
                f"found series={self.series} and baseline_series={self.baseline_series}, expected "
                "two different numbers with send_baseline; change one of them"
            )
        return self

    def deadline(self, received_at: float) -> float | None:
        """When the image of data that came at `received_at` must be there; None for any time.

        Both in terms of `time.monotonic()`.
        """
        return received_at + 1e-3 * self.deadline_ms if self.deadline_ms else None

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> ReconstructionOptions:
        """Options from the properties of a configuration; those not named have their defaults.

        Choices and booleans are read in upper and lower case, booleans as true, false, yes, no, 1
        and 0.

        Raises:
            ConfigurationError: An unknown property (the near name is told), a value that can't be
                read, or values that don't go together.
        """
        for name in properties:
            if name not in SETTINGS:
                raise ConfigurationError(f"unknown property '{name}'; {hint(name, SETTINGS)}")
        values = {name: _plain(SETTINGS[name], text) for name, text in properties.items()}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            name = str(error.errors()[0]["loc"][0])
            setting = SETTINGS[name]
            near = nearest(properties[name], setting.choices)
            raise ConfigurationError(
                f"property {name}: found '{properties[name]}', expected {setting.expected}"
                f"{f'; did you mean {near!r}?' if near else ''}"
            ) from error


def _plain(setting: Setting, text: str) -> str:
    """The text of a value as pydantic takes it."""
    text = text.strip()
    return text.lower() if setting.choices or isinstance(setting.default, bool) else text
