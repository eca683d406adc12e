"""What a process of a training tells the others when it ends by an error, so that they end, too.

Who waits for a process that is gone learns it from gloo's connections; over NCCL, or before all
have come together, only after --collective-timeout. But the store by which they find each other can
hold a word of the one that ends, and a thread of each of the others looks for it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
from datetime import timedelta

import click
from torch import distributed

from chpnet_stream.errors import ChpnetError
from chpnet_training.optimization import TrainingError

LOOK = 0.5
"""Seconds between two looks at the store."""
HEAR = 5.0
"""Seconds that the first process to end waits until the others have heard of it."""
GRACE = 3.0
"""Seconds for a process that has heard of it to end by itself."""

_WORD = "chpnet-farewell"
_FIRST, _HEARD = f"{_WORD}-first", f"{_WORD}-heard"


class _Listener:
    """Waits for the word of another process, and ends this one after it.

    Attributes:
        said: The word, empty before it comes.
    """

    def __init__(self) -> None:
        self.said = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="farewell", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen no longer: this process ends."""
        self._over.set()
        self._thread.join(timeout=2 * LOOK)

    def _listen(self) -> None:
        try:
            store = _connect(60.0)
            while not store.check([_WORD]):
                if self._over.wait(LOOK):
                    return
            self.said = store.get(_WORD).decode()
            store.add(_HEARD, 1)
        except RuntimeError:  # the store went with the process that kept it
            return
        if not self._over.wait(GRACE):
            from chpnet_training.cli import PROGRAM

            click.echo(f"{PROGRAM}: error: {consequence(self.said)}", err=True)
            sys.stderr.flush()
            os._exit(TrainingError.exit_code)  # the main thread waits where no error reaches it


_listener: _Listener | None = None


def store_is_there() -> bool:
    """Whether torchrun keeps the store, so that it is there before the processes come together."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def listen() -> None:
    """Begin to listen, where there are other processes."""
    global _listener
    stop_listening()
    if _place()[1] > 1:
        _listener = _Listener()


@atexit.register
def stop_listening() -> None:
    """Let the end of another process be no concern of this one any more."""
    if _listener is not None:
        _listener.stop()


def heard() -> str:
    """By what another process has ended; empty while none has said so."""
    return "" if _listener is None else _listener.said


def consequence(said: str) -> str:
    """Why this process ends after another one."""
    return f"ends, too, because {said}"


def tell(error: BaseException) -> None:
    """Leave word of the error by which this process ends, until the others have heard it.

    Nothing is said by a process that ends because of another one's word.
    """
    rank, world = _place()
    stop_listening()
    if world == 1 or heard():
        return
    reason = f"unexpected {type(error).__name__}: {error}"
    if isinstance(error, ChpnetError):
        reason = str(error)
    elif isinstance(error, KeyboardInterrupt):
        reason = "interrupted"
    with contextlib.suppress(RuntimeError):  # the store is gone: there is nobody to tell
        store = _connect(HEAR)
        if store.add(_FIRST, 1) > 1:
            store.add(_HEARD, 1)
            return
        store.set(_WORD, f"process {rank} of {world} has ended: {reason}")
        end = time.monotonic() + HEAR
        while store.add(_HEARD, 0) < world - 1 and time.monotonic() < end:
            time.sleep(0.05)


def _place() -> tuple[int, int]:
    """The number of this process, and of all; (0, 1) where it is alone."""
    if distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    if store_is_there():
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return 0, 1


def _connect(seconds: float) -> distributed.TCPStore:
    """A connection of one's own: that of the group is busy while the group waits for something.

    Raises:
        RuntimeError: If there is no store.
    """
    return distributed.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        wait_for_workers=False,
        timeout=timedelta(seconds=seconds),
    )
