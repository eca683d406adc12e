"""Threads that have nothing to do sleep soon, instead of spinning on a core that others need."""

from __future__ import annotations

import os

SPINS = 3000
"""Turns of a thread that waits, before it sleeps: tens of microseconds.

GNU OpenMP's own 300,000 are milliseconds, in which whoever has work waits for the core. None at
all (``OMP_WAIT_POLICY=passive``) makes a slice half as long again where nobody else wants the core:
a network is hundreds of short loops, and threads that sleep must be woken for each.
"""


def let_idle_threads_sleep() -> None:
    """Set how the threads of PyTorch's pool (OpenMP) wait; call it before torch is imported.

    ``OMP_WAIT_POLICY`` or ``GOMP_SPINCOUNT`` in the environment win.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
