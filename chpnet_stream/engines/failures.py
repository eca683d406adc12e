"""How engines fail, as far as what is done about it differs."""

from __future__ import annotations

import re

from chpnet_stream.engines.engine import first_line
from chpnet_stream.errors import ChpnetError, EngineError

FOREIGN = (
    *(RuntimeError, AttributeError, TypeError, ValueError),
    *(LookupError, OSError, MemoryError),
)
"""What libraries of another version, their bindings, the GPU and a lack of memory raise."""

FAILURES = (ChpnetError, *FOREIGN)
"""What another engine may be able to do without."""

_MEMORY = re.compile(
    r"out[ _]?of[ _]?memory|(insufficient|enough|no)( free)? memory|bad_alloc", re.IGNORECASE
)


class NotInstalledError(EngineError):
    """The package of an engine is not there."""


class NoPlansError(EngineError):
    """There are no plans, and none may be made."""


class NoMemoryError(EngineError):
    """Memory was short: what there is may be good, and made again it would fail again."""


def failure(text: str, reason: str) -> EngineError:
    """The error of a library's call.

    Args:
        text: What failed.
        reason: The library's own words, which tell a lack of memory from the rest.
    """
    kind = NoMemoryError if _MEMORY.search(reason) else EngineError
    return kind(f"{text}: {reason}")


def told(name: str, error: Exception) -> str:
    """An error in one line; one of somebody else's with the engine's name and its class.

    Args:
        name: Of the engine.
        error: What was raised.
    """
    if isinstance(error, ChpnetError):
        return str(error)
    return f"{name}: {type(error).__name__}: {first_line(error)}"
