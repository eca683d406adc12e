"""What an image says of itself, in plain values: from its header and meta."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from chpnet_stream.streaming.events import ImageReady

LONGEST_TEXT = 2000
"""Characters that are kept of a text: peers write meta, too, and it is kept for every picture."""

COUNTERS = ("slice", "contrast", "phase", "repetition", "set", "average")


@dataclass(frozen=True)
class ImageFacts:
    """One plane of what was sent.

    Attributes:
        counters: slice, contrast, phase, repetition, set, average.
        series: image_series_index.
        method: What made it; empty where it doesn't say.
        fallback: Why it is not of the method asked for; None where it is.
        mark: What is wrong with the data that it was made of; None where nothing was noticed.
        residual: Relative data-consistency residual; None where unknown.
        missing_lines: Lines that the slice lacked; 0 where it was complete.
        model: Name of the network, or None.
        checksum: Of the network.
        engine: That ran it.
        window: Display window, centre and width in units of the pixels, or None.
        slope: The value of a pixel is pixel * slope + intercept.
        intercept: See `slope`.
        position: Centre of the image, LPS mm.
        row_direction: Along a row of pixels (x grows), LPS, unit length.
        column_direction: Along a column of pixels (y grows).
        field_of_view: x, y, z in mm.
    """

    counters: dict[str, int]
    series: int
    method: str
    fallback: str | None
    mark: str | None
    residual: float | None
    missing_lines: int
    model: str | None
    checksum: str | None
    engine: str | None
    window: tuple[float, float] | None
    slope: float
    intercept: float
    position: tuple[float, float, float]
    row_direction: tuple[float, float, float]
    column_direction: tuple[float, float, float]
    field_of_view: tuple[float, float, float]

    @property
    def fallback_kind(self) -> str | None:
        """The kind of reason, without details: late, engine failed, not finite ..."""
        return None if self.fallback is None else self.fallback.partition(":")[0]


def facts_of(event: ImageReady) -> list[ImageFacts]:
    """The facts of every plane of an image.

    Raises:
        ProtocolError: Meta of an image array that are no XML.
    """
    from chpnet_stream.mrd.wire.image import parse_meta

    metas = [parse_meta(m) if isinstance(m, bytes) else m for m in event.metas]
    found = []
    for number, head in enumerate(event.heads):
        meta = metas[min(number, len(metas) - 1)] if metas else {}
        found.append(_facts(head, meta))
    return found


def _facts(head: Any, meta: Any) -> ImageFacts:
    centre, width = _number(meta, "WindowCenter"), _number(meta, "WindowWidth")
    slope, intercept = _number(meta, "RescaleSlope"), _number(meta, "RescaleIntercept")
    return ImageFacts(
        counters={name: int(getattr(head, name)) for name in COUNTERS},
        series=int(head.image_series_index),
        method=_text(meta, "ChpnetMethod") or "",
        fallback=_text(meta, "ChpnetFallback"),
        mark=_text(meta, "ChpnetDataMark"),
        residual=_number(meta, "ChpnetDataConsistencyResidual"),
        missing_lines=int(_number(meta, "ChpnetMissingLines") or 0),
        model=_text(meta, "ChpnetModel"),
        checksum=_text(meta, "ChpnetModelChecksum"),
        engine=_text(meta, "ChpnetEngine"),
        window=None if centre is None or not width else (centre, width),
        slope=slope if slope else 1.0,
        intercept=intercept or 0.0,
        position=_vector(head.position),
        row_direction=_direction(meta, "ImageRowDir", head.read_dir),
        column_direction=_direction(meta, "ImageColumnDir", head.phase_dir),
        field_of_view=_vector(head.field_of_view),
    )


def _text(meta: Any, name: str) -> str | None:
    value = meta.get(name)
    if isinstance(value, list | tuple):
        value = "; ".join(map(str, value))
    return str(value)[:LONGEST_TEXT] if value else None


def _number(meta: Any, name: str) -> float | None:
    try:
        value = float(meta.get(name))
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _direction(meta: Any, name: str, otherwise: Any) -> tuple[float, float, float]:
    """A direction of the meta, where the flips are in; else that of the header."""
    told = meta.get(name)
    if isinstance(told, list | tuple) and len(told) == 3:
        try:
            return _vector(told)
        except ValueError:
            pass
    return _vector(otherwise)


def _vector(values: Any) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return (x, y, z)
