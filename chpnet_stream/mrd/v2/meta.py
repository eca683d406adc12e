"""Meta of images: text in v1, lists of typed values in v2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

INT64 = range(-(2**63), 2**63)


def meta_to_v2(meta: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Meta of v1 as typed lists.

    A text becomes a number only where the number is written back as the same text: nothing is
    lost, and "007" or "1.50" stay texts.
    """
    return {
        str(name): [_typed(str(v)) for v in (value if isinstance(value, list) else [value])]
        for name, value in meta.items()
    }


def meta_to_v1(meta: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Typed lists as meta of v1: a list of one is the value itself, an empty list a text ""."""
    made: dict[str, Any] = {}
    for name, values in meta.items():
        texts = [_text(value.value) for value in values]
        made[name] = texts if len(texts) > 1 else (texts or [""])[0]
    return made


def _typed(text: str) -> Any:
    import mrd

    for kind, read in ((mrd.ImageMetaValue.Int64, int), (mrd.ImageMetaValue.Float64, float)):
        try:
            value = read(text)
        except ValueError:
            continue
        fits = value in INT64 if isinstance(value, int) else math.isfinite(value)
        if fits and _text(value) == text:
            return kind(value)
    return mrd.ImageMetaValue.String(text)


def _text(value: Any) -> str:
    return repr(float(value)) if isinstance(value, float) else str(value)
