"""The mrd-python package, which not everybody has."""

from __future__ import annotations

from typing import Any

from chpnet_stream.errors import ConfigurationError


def require_mrd() -> Any:
    """The module `mrd`.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        import mrd
    except ImportError as error:
        raise ConfigurationError(
            "MRD v2 needs the package mrd-python, which is not installed; pip install "
            "'chpnet-stream[mrd2]'"
        ) from error
    return mrd
