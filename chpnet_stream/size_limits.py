"""Limits on sizes that come from outside, which CHPNET_LIMITS in the environment changes."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.near import hint

VARIABLE = "CHPNET_LIMITS"
EXAMPLE = "item_bytes=2GiB,coils=2048"
WIRE = (
    *("config_bytes", "header_bytes", "text_bytes", "meta_bytes", "item_bytes"),
    *("collection_bytes", "dimensions"),
)
"""Those of single messages: the attributes of `mrd.wire.limits.WireLimits`."""
NAMES = (
    *WIRE,
    *(
        "waiting_bytes",
        "matrix_samples",
        "slice_bytes",
        "open_slices",
        "open_slices_bytes",
        "coils",
    ),
)
UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def size_limit(name: str, default: int) -> int:
    """A limit: that of the environment, else the default.

    Args:
        name: One of `NAMES`.
        default: What holds where the environment does not say.

    Raises:
        ConfigurationError: The variable can't be understood.
    """
    return configured_limits().get(name, default)


def configured_limits() -> Mapping[str, int]:
    """The limits that the environment sets.

    Raises:
        ConfigurationError: The variable can't be understood.
    """
    return _parsed(os.environ.get(VARIABLE, ""))


@functools.lru_cache(maxsize=4)
def _parsed(text: str) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (word.strip() for word in part.partition("="))
        if name not in NAMES:
            raise ConfigurationError(
                f"{VARIABLE} has a limit {name[:40]!r}; {hint(name[:40], NAMES)}; "
                f"example: {EXAMPLE}"
            )
        number = re.fullmatch(r"([0-9]{1,15})\s*(KiB|MiB|GiB|)", value)
        if number is None or int(number[1]) == 0:
            raise ConfigurationError(
                f"{VARIABLE} has {name}={value[:40]!r}, expected a whole number above zero, with "
                f"or without KiB, MiB or GiB; example: {EXAMPLE}"
            )
        found[name] = int(number[1]) * UNITS[number[2]]
    return found
