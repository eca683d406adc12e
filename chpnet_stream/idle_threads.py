"""How threads wait that have nothing to do: not on a core that others need, and ready at once."""

from __future__ import annotations

import os

SPINS = 3000
"""Turns of a thread that waits, before it sleeps: tens of microseconds.

GNU OpenMP's own 300,000 are milliseconds, in which whoever has work waits for the core. None at
all (``OMP_WAIT_POLICY=passive``) makes a slice half as long again where nobody else wants the core:
a network is hundreds of short loops, and threads that sleep must be woken for each.
"""

SETTINGS = {
    "GOMP_SPINCOUNT": str(SPINS),
    # Where more threads have loops than there are cores (that of the coil maps has, too), GNU
    # OpenMP lets them wait for a hundred turns, nearly none; with this for a thousand.
    "OMP_WAIT_POLICY": "active",
}


def let_idle_threads_sleep() -> None:
    """Set how threads wait; call it before numpy and torch are imported.

    Those of PyTorch's pool (OpenMP) sleep soon. NumPy's (OpenBLAS) are not started: after a matrix
    product of a line or two they would keep a core for a tenth of a second, while the network wants
    it. What the environment says of any of this wins.
    """
    if not SETTINGS.keys() & os.environ.keys():
        os.environ.update(SETTINGS)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
