"""Threads that have nothing to do sleep, instead of spinning on a core that others need."""

from __future__ import annotations

import os


def let_idle_threads_sleep() -> None:
    """Set how the threads of PyTorch's pool (OpenMP) wait; call it before torch is imported.

    By default they spin for some milliseconds at the end of every loop. Where another program, or
    another thread of this one, has the core that one of them waits for, all wait for its turn,
    and a slice takes many times as long. ``OMP_WAIT_POLICY`` or
    ``GOMP_SPINCOUNT`` in the environment win.
    """
    if "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
