"""How threads wait that have nothing to do: not on a core that others need, and ready at once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from functools import partial
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

    with _ASKING:
        if getattr(_THIS, "alone", False):
            torch.set_num_threads(threads_of_all())
            _set_mkl(0)
            _THIS.alone = False
        return int(torch.get_num_threads())


def work_alone() -> None:
    """Let this thread's loops run on it alone; other threads' stay as they are.

    GNU OpenMP gives every thread that has loops a team of its own. Where all of them together are
    more than the cores, it lets none wait awake, and a network's hundreds of short loops cost half
    as much again. So a process has one team: that of the thread that runs the network.
    """
    import torch

    with _ASKING:
        everybody = threads_of_all()
        torch.get_num_threads()  # else the first loop asks, and takes over everybody's
        torch.set_num_threads(1)
        _set_mkl(1)
        _THIS.alone = True
        # That was for this thread, and for all that ask for the first time: tell these otherwise.
        _in_passing(partial(torch.set_num_threads, everybody))


def _set_mkl(count: int) -> None:
    """The same for MKL's part of PyTorch on this thread; 0: as many as it was told for all."""
    import ctypes

    import torch

    with contextlib.suppress(OSError, AttributeError):  # a PyTorch without MKL
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        library.MKL_Set_Num_Threads_Local(count)


def threads_of_all() -> int:
    """Threads that PyTorch was told to use, whatever this thread does for itself."""
    import torch

    found: list[int] = []
    _in_passing(lambda: found.append(torch.get_num_threads()))
    return found[0]


def _in_passing(work: Callable[[], object]) -> None:
    """Do something on a thread that ends with it."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def keep_cores_busy() -> None:
    """Let this thread's team work for about a tenth of a millisecond, for nothing."""
    import torch

    if not _BLOCK:
        _BLOCK.append(torch.rand(BUSY_NUMBERS))
    torch.sin(_BLOCK[0], out=_BLOCK[0])


_ASKING = threading.Lock()
_THIS = threading.local()
_BLOCK: list[Any] = []
