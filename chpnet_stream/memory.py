"""Memory of long-lived processes: flat."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

MOST_ARENAS = 2
_M_ARENA_MAX = -8
"""The setting's number in malloc.h of glibc."""


def keep_memory_flat() -> bool:
    """Set glibc's allocator for a server; call it before threads are made.

    By default every thread may get an arena of its own, up to eight for each core. Scans come on
    new threads, and the arenas fill with what one thread has left and another can't use: the
    process grows for hours.

    ``MALLOC_ARENA_MAX`` in the environment wins. Where there is another allocator nothing is done.

    Returns:
        Whether the number of arenas is set, by us or by the environment.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return "MALLOC_ARENA_MAX" in os.environ or bool(mallopt(_M_ARENA_MAX, MOST_ARENAS))


def give_memory_back() -> None:
    """Let the kernel have what a scan no longer needs; glibc keeps it else until there is more.

    Other threads work on meanwhile. Where there is another allocator nothing is done.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
