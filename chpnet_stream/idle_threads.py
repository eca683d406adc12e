"""How threads wait that have nothing to do: not on a core that others need, and ready at once."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from pathlib import Path
from typing import Any

SPINS = 3000
"""Turns of a thread that waits, before it sleeps: tens of microseconds.

GNU OpenMP's own 300,000 are milliseconds, in which whoever has work waits for the core. None at
all (``OMP_WAIT_POLICY=passive``) makes a slice half as long again where nobody else wants the core:
a network is hundreds of short loops, and threads that sleep must be woken for each.
"""

BUSY_NUMBERS = 2**17
"""Numbers that cores are kept busy with: enough for several threads, few enough for any cache."""

LIBRARIES = ("libtorch_cpu.so", "libtorch_cpu.dylib", "torch_cpu.dll")
"""PyTorch's own, with the OpenMP that it was linked with."""

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


def take_over_threads() -> int:
    """Let this thread's loops run on as many threads as PyTorch was told; returns that number.

    A new thread takes the number over only by asking for it.
    """
    import torch

    told = getattr(_THIS, "told", None)
    if told is not None:
        _let_loops_have(told, 0)
        del _THIS.told
    return int(torch.get_num_threads())


def work_alone() -> None:
    """Let this thread's loops run on it alone; other threads' stay as they are.

    GNU OpenMP gives every thread that has loops a team of its own. Where all of them together are
    more than the cores, it lets none wait awake, and a network's hundreds of short loops cost half
    as much again. So a process has one team: that of the thread that runs the network.

    Where PyTorch has no OpenMP, nothing changes.
    """
    if getattr(_THIS, "told", None) is None:
        told = take_over_threads()  # else the first loop asks, and takes over everybody's
        if _let_loops_have(1, 1):
            _THIS.told = told


def threads_of_all() -> int:
    """Threads that PyTorch was told to use, whatever this thread does for itself."""
    import torch

    return int(getattr(_THIS, "told", None) or torch.get_num_threads())


def _let_loops_have(threads: int, products: int) -> bool:
    """Tell OpenMP and MKL for this thread only, which PyTorch itself can't; whether it was done.

    Args:
        threads: Of loops.
        products: Of MKL's transforms and matrix products; 0: as many as it was told for all.
    """
    import ctypes

    import torch

    folder = Path(torch.__file__).parent / "lib"
    for name in LIBRARIES:
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(str(folder / name))
            library.omp_set_num_threads(threads)
            with contextlib.suppress(AttributeError):  # a PyTorch without MKL
                library.MKL_Set_Num_Threads_Local(products)
            return True
    return False


def keep_cores_busy() -> None:
    """Let this thread's team work for about a tenth of a millisecond, for nothing."""
    import torch

    torch.sin(_numbers(), out=_numbers())


@functools.cache
def _numbers() -> Any:
    import torch

    return torch.rand(BUSY_NUMBERS)


_THIS = threading.local()
