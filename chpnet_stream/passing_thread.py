"""Work beside, on a thread that is there only while there is some."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from chpnet_stream.busy import working
from chpnet_stream.idle_threads import take_over_threads

T = TypeVar("T")


class PassingThread:
    """Does one piece of work after the other on a thread that ends when there is no more.

    With it ends the team that its loops had, of which a process should have one only
    (`idle_threads.work_alone`). A process that ends waits for what has been begun.

    Args:
        name: Of the thread.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have something done; what comes of it is in the future.

        Raises:
            RuntimeError: The thread can't be started.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._waiting == 0:
                context = contextvars.copy_context()
                threading.Thread(
                    target=context.run, args=(self._run,), name=self.name, daemon=False
                ).start()
            self._waiting += 1
            self._work.put((future, work))
        return future

    def _run(self) -> None:
        more = True
        while more:
            _do(*self._work.get())
            with self._lock:
                self._waiting -= 1
                more = self._waiting > 0


def _do(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        take_over_threads()
        with working():
            made = work()
        future.set_result(made)
    except BaseException as error:  # noqa: BLE001 - whoever waits gets it
        future.set_exception(error)
    finally:
        del future, work
