"""Which scan a thread is working for: its name in log records."""

from __future__ import annotations

import itertools
import secrets
import time
from contextvars import ContextVar

CURRENT_SCAN: ContextVar[str] = ContextVar("CURRENT_SCAN", default="")
"""The id of the scan that this thread works for; empty outside of scans."""

_NUMBERS = itertools.count(1)


def new_scan_id() -> str:
    """A name for a scan that no other has: start, number in this process, four random digits.

    Fit for a file name; says nothing of the patient.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{next(_NUMBERS):04d}-{secrets.token_hex(2)}"
