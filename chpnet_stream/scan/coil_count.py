"""How many coils an acquisition may have."""

from __future__ import annotations

from typing import Any

from chpnet_stream.errors import InconsistentScanError
from chpnet_stream.size_limits import VARIABLE, size_limit

MOST_COILS = 1024
"""Matrices of coils by coils are made of them, of noise as of calibration lines."""


def check_coils(acquisition: Any) -> None:
    """Refuse an acquisition without coils, or with more than matrices are made for.

    Raises:
        InconsistentScanError: As said.
    """
    coils = len(acquisition.data)
    most = size_limit("coils", MOST_COILS)
    if not 1 <= coils <= most:
        raise InconsistentScanError(
            f"acquisition {acquisition.scan_counter} has {coils:,} coils, expected 1 to {most:,}; "
            f"check the conversion, combine coils before, or set {VARIABLE}=coils=..."
        )
