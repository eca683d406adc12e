"""A network that can't be loaded costs the scan its network, not its images."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from chpnet_stream.errors import ConfigurationError

if TYPE_CHECKING:
    from chpnet_stream.engines.engine import Engine

NOT_LOADED = "engine not loaded"
"""Kind of fallback where there is no network to ask."""

logger = logging.getLogger(__name__)


def load_or_explain(
    load: Callable[[], Engine],
    on_error: str,
    outcome: str = "every image of the scan will be a conventional one",
) -> tuple[Engine | None, str]:
    """An engine, or why there is none.

    Args:
        load: Loads it.
        on_error: As the option: with "error" the failure is raised.
        outcome: What becomes of the images without it, for the log.

    Returns:
        The engine and an empty text, or None and the reason.

    Raises:
        ConfigurationError: What was asked for doesn't exist.
        Exception: What `load` raises, with on_error "error".
    """
    try:
        return load(), ""
    except ConfigurationError:
        raise
    except Exception as error:  # damaged files, missing libraries, no memory: the scan goes on
        if on_error == "error":
            raise
        from chpnet_stream.engines.engine import first_line

        logger.warning(
            "the network could not be loaded (%s); %s, marked so", first_line(error), outcome
        )
        return None, f"{NOT_LOADED}: {first_line(error)}"
