"""Work that must be ready in time, or is given up."""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Generic, TypeAlias, TypeVar

from torch import Tensor

from chpnet_stream.idle_threads import keep_cores_busy, take_over_threads
from chpnet_stream.network.normal import ColumnNormal, NarrowNormal, Normal

T = TypeVar("T")

GLANCE = 1e-3
"""Seconds between two looks of a thread that is to be awake, while another one works."""


class TooLateError(Exception):
    """The deadline passed first. No error of the user's: the caller has something else to send."""


class GivenUpError(Exception):
    """Raised inside of work whose result nobody waits for any more."""


class StoppableNormal:
    """A* A that ends the work it is called from when that has been given up.

    Networks can't be stopped in the middle, but they come here in every iteration.

    Args:
        normal: The normal operator.
        stop: Set when the work is given up.
    """

    def __init__(self, normal: Normal, stop: threading.Event) -> None:
        self.normal = normal
        self.stop = stop

    def __call__(self, x: Tensor) -> Tensor:
        """Apply A* A."""
        if self.stop.is_set():
            raise GivenUpError
        return self.normal(x)


class StoppableSolver(StoppableNormal):
    """The same with conjugate gradients of its own; it is asked in every iteration of the network.

    Args:
        normal: The normal operator.
        stop: Set when the work is given up.
    """

    def __init__(self, normal: ColumnNormal | NarrowNormal, stop: threading.Event) -> None:
        super().__init__(normal, stop)
        self._solve = normal.solve

    def solve(self, adjoint: Tensor, start: Tensor, weight: Tensor, steps: int) -> Tensor:
        """See `network.normal.Solver.solve`."""
        if self.stop.is_set():
            raise GivenUpError
        return self._solve(adjoint, start, weight, steps)


class DeadlineRunner:
    """Runs one piece of work after the other on a thread of its own, and waits until a deadline.

    Late work goes on until it looks at its event, and its result is dropped; the next piece
    begins when it has ended.

    Attributes:
        dropped: Results that came too late or were never begun.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._work: _Queue = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._last: _Piece[Any] | None = None
        self._lock = threading.Lock()
        self._awake = (0.0, 0.0)

    @property
    def is_free(self) -> bool:
        """Whether work given now would begin at once; late work goes on for a while."""
        return self._last is None

    def run(self, work: Callable[[threading.Event], T], deadline: float | None = None) -> T:
        """Run `work` and return its result.

        Args:
            work: Called with an event that is set when it is given up.
            deadline: In terms of `time.monotonic()`; None for any time.

        Raises:
            TooLateError: The deadline passed.
            Exception: Whatever the work raised.
        """
        if deadline is not None and time.monotonic() >= deadline:
            self.dropped += 1
            raise TooLateError
        self._start()
        piece = _Piece(work)
        with self._lock:
            self._last = piece
        self._work.put(piece)
        try:
            return piece.future.result(None if deadline is None else deadline - time.monotonic())
        except FutureTimeoutError:
            if deadline is None or piece.future.done():
                return piece.future.result()
            piece.stop.set()
            piece.work = None  # behind a network that hangs, slices must not pile up
            self.dropped += 1
            raise TooLateError from None

    def wake(self, begin: float, end: float) -> None:
        """Keep the cores busy for a while before work is expected, so that they are fast then.

        Cores that had nothing to do run slowly at first: after a tenth of a second a network takes
        almost twice as long. Work ends it, and the work of another runner does.

        Args:
            begin: When to begin, in terms of `time.monotonic()`.
            end: When to give it up.
        """
        self._start()
        news = begin < self._awake[0] or self._awake[1] < time.monotonic()
        self._awake = (begin, end)
        if news:
            self._work.put(_LOOK)

    def close(self) -> None:
        """End the thread, and give up what runs there."""
        self._awake = (0.0, 0.0)
        if self._thread is not None:
            self._work.put(None)
            self._thread = None

    def _start(self) -> None:
        if self._thread is None:
            # A daemon: a network that hangs must not keep the process from ending.
            self._work = queue.SimpleQueue()
            self._thread = threading.Thread(
                target=self._loop, args=(self._work,), name="network", daemon=True
            )
            self._thread.start()

    def _loop(self, waiting: _Queue) -> None:
        take_over_threads()
        while (piece := self._next(waiting)) is not None:
            self._do(piece)
            # Whoever gave the work can go when he is done with it, and so can this thread.
            del piece

    def _do(self, piece: _Piece[Any]) -> None:
        work = piece.work
        if piece.stop.is_set() or work is None:
            piece.future.cancel()
        else:
            _WORKING.add(self)
            try:
                piece.future.set_result(piece.context.run(work, piece.stop))
            except BaseException as error:  # noqa: BLE001 - whoever waits gets it
                piece.future.set_exception(error)
            finally:
                _WORKING.discard(self)
        with self._lock:
            if self._last is piece:
                self._last = None

    def _next(self, waiting: _Queue) -> _Piece[Any] | None:
        """The next piece; None at the end."""
        while True:
            begin, end = self._awake
            now = time.monotonic()
            try:
                if now >= end:
                    found = waiting.get()
                elif now < begin or _WORKING:
                    found = waiting.get(timeout=max(begin - now, GLANCE))
                else:
                    keep_cores_busy()
                    found = waiting.get_nowait()
            except queue.Empty:
                continue
            if found is not _LOOK:
                self._awake = (0.0, 0.0)
                return found


class _Piece(Generic[T]):
    def __init__(self, work: Callable[[threading.Event], T]) -> None:
        self.work: Callable[[threading.Event], T] | None = work
        self.stop = threading.Event()
        self.future: Future[T] = Future()
        self.context = contextvars.copy_context()


_Queue: TypeAlias = "queue.SimpleQueue[_Piece[Any] | None]"


def _nothing(stop: threading.Event) -> Any:
    """No work."""


_LOOK: _Piece[Any] = _Piece(_nothing)
"""Put in line for the thread to look at when it is to be awake."""

_WORKING: set[DeadlineRunner] = set()
"""Runners of this process that are at work: nobody keeps their cores from them."""
