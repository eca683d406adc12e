"""An image for the page: 16-bit pixels and what there is to say of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chpnet_stream.dashboard.orientation import edges
from chpnet_stream.streaming.events import ImageReady
from chpnet_stream.streaming.facts import ImageFacts, facts_of

TOP = 65535
WINDOW_PERCENTILE = 99.5


@dataclass
class Picture:
    """One plane.

    Attributes:
        number: Running number on this page; older pictures have smaller ones.
        scan_id: Of which scan.
        facts: Values by name, fit for JSON.
        pixels: uint16 little endian, `y x`, row by row; a value is pixel * slope + intercept.
    """

    number: int
    scan_id: str
    facts: dict[str, Any]
    pixels: bytes = field(repr=False)


def planes_of(event: ImageReady) -> Iterator[tuple[ImageFacts, np.ndarray]]:
    """Facts and pixels, `y x`, of every plane of an image.

    Several channels or z of one image are the planes of one header.
    """
    facts = facts_of(event)
    data = event.pixels
    if data is None:
        return
    if data.ndim == 7:  # x y z channels n s loc: one header for each n s loc, n fastest
        x, y = data.shape[:2]
        each = data.shape[2] * data.shape[3]
        planes = data.reshape(x, y, -1, order="F").transpose(2, 1, 0)
    else:
        planes = data.reshape(-1, *data.shape[-2:])
        each = max(1, len(planes) // max(1, len(facts)))
    for number, plane in enumerate(planes):
        yield facts[min(number // each, len(facts) - 1)], plane


def picture(
    number: int, event: ImageReady, facts: ImageFacts, plane: np.ndarray, at: float
) -> Picture:
    """A plane as the page gets it; of complex pixels the magnitude.

    Args:
        number: Running number.
        event: Where it comes from.
        facts: What is known of it.
        plane: `y x`.
        at: Time in seconds since 1970.
    """
    values = np.abs(plane) if np.iscomplexobj(plane) else plane
    if values.dtype == np.uint16:
        stored, slope, intercept = values, facts.slope, facts.intercept
        finite = True
    else:
        values = values.astype(np.float32) * facts.slope + facts.intercept
        finite = bool(np.isfinite(values).all())
        if not finite:
            values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        intercept = min(float(values.min(initial=0.0)), 0.0)
        slope = (float(values.max(initial=0.0)) - intercept) / TOP
        slope = slope if slope > np.finfo(np.float32).tiny else 1.0  # a denormal one is no divisor
        stored = np.rint((values - intercept) / slope).astype(np.uint16)
    window = facts.window
    if window is None:
        white = float(np.percentile(stored, WINDOW_PERCENTILE)) * slope + intercept
        window = (white / 2, white)
    told = {
        "number": number,
        "scan": event.live.scan_id,
        "image": event.number,
        "beside": event.beside,
        "series": facts.series,
        **facts.counters,
        "width": int(plane.shape[1]),
        "height": int(plane.shape[0]),
        "slope": slope,
        "intercept": intercept,
        "window": [round(v, 6) for v in window],
        "edges": edges(facts.row_direction, facts.column_direction),
        "position_mm": [round(v, 2) for v in facts.position],
        "pixel_mm": [
            round(facts.field_of_view[0] / max(plane.shape[1], 1), 4),
            round(facts.field_of_view[1] / max(plane.shape[0], 1), 4),
        ],
        "method": facts.method,
        "fallback": facts.fallback,
        "mark": facts.mark,
        "residual": facts.residual,
        "missing_lines": facts.missing_lines,
        "finite": finite,
        "model": facts.model,
        "engine": facts.engine,
        "latency_ms": None,
        "late": False,
        "at": round(at, 3),
    }
    pixels = np.ascontiguousarray(stored, dtype="<u2").tobytes()
    return Picture(number, event.live.scan_id, told, pixels)
