"""Plain values as JSON that every reader takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON; in one line unless `indent` is given.

    JSON has no infinities and no NaN: null stands for them. Values of numpy become Python's own,
    anything unknown its text.
    """
    separators = None if indent else (",", ":")
    try:
        return json.dumps(
            value, default=_plain, allow_nan=False, indent=indent, separators=separators
        )
    except ValueError:
        return json.dumps(finite(value), default=_plain, indent=indent, separators=separators)


def finite(value: Any) -> Any:
    """The same with None for numbers that are not finite."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
