"""Memory of long-lived processes: flat, and quick to have again."""

from __future__ import annotations

import ctypes
import os
import sys

MOST_ARENAS = 2
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
"""Numbers of settings in malloc.h of glibc."""

KEPT_BYTES = 256 * 2**20
"""Free memory that glibc keeps at the end of the heap for the next slice."""

OWN_PIECE_BYTES = 32 * 2**20
"""Pieces from this size on are taken from the kernel one by one, and given back: the largest that
glibc allows."""


def keep_memory_flat() -> bool:
    """Set glibc's allocator for a server; call it before threads are made.

    By default every thread may get an arena of its own, up to eight for each core. Scans come on
    new threads, and the arenas fill with what one thread has left and another can't use: the
    process grows for hours. And buffers of a slice are given back to the kernel after each use, and
    cleared by it for the next.

    Variables of the environment that say otherwise (``MALLOC_ARENA_MAX`` and others) win. Where
    there is another allocator nothing is done.

    Returns:
        Whether the number of arenas is set, by us or by the environment.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    done = True
    for variable, number, value in (
        ("MALLOC_ARENA_MAX", _M_ARENA_MAX, MOST_ARENAS),
        ("MALLOC_MMAP_THRESHOLD_", _M_MMAP_THRESHOLD, OWN_PIECE_BYTES),
        ("MALLOC_TRIM_THRESHOLD_", _M_TRIM_THRESHOLD, KEPT_BYTES),
    ):
        if variable not in os.environ:
            done &= bool(mallopt(number, value))
    return done
