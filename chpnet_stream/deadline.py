"""Work that must be ready in time, or is given up."""

from __future__ import annotations

import contextvars
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Generic, TypeAlias, TypeVar

from torch import Tensor

from chpnet_stream.busy import anybody_works, give_up, working
from chpnet_stream.idle_threads import keep_cores_busy, take_over_threads
from chpnet_stream.network.normal import ColumnNormal, NarrowNormal, Normal

T = TypeVar("T")

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often who waits for work looks whether somebody is there to do it."""

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
        self._lock = threading.Lock()
        self._work: _Queue = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._last: _Piece[Any] | None = None
        self._awake = (0.0, 0.0)

    def is_ready(self) -> bool:
        """Whether work given now would begin at once: late work goes on, and threads may lack."""
        with self._lock:
            try:
                self._start()
            except RuntimeError as error:
                logger.warning("no thread for slices: %s", error)
                return False
            return self._last is None

    def run(self, work: Callable[[threading.Event], T], deadline: float | None = None) -> T:
        """Run `work` and return its result.

        Args:
            work: Called with an event that is set when it is given up.
            deadline: In terms of `time.monotonic()`; None for any time.

        Raises:
            TooLateError: The deadline passed.
            RuntimeError: The thread can't be started.
            Exception: Whatever the work raised.
        """
        if deadline is not None and time.monotonic() >= deadline:
            self.dropped += 1
            raise TooLateError
        piece = _Piece(work)
        with self._lock:
            self._start()
            self._last = piece
            self._work.put(piece)
        try:
            return self._result(piece, deadline)
        except FutureTimeoutError:
            if piece.future.done():
                return piece.future.result()
            piece.give_up()  # behind a network that hangs, slices must not pile up
            self.dropped += 1
            raise TooLateError from None
        finally:
            del piece, work  # an error would keep them, and they it

    def _result(self, piece: _Piece[T], deadline: float | None) -> T:
        """Wait for a piece as long as there is somebody who does it.

        Raises:
            FutureTimeoutError: The deadline passed.
            RuntimeError: The thread has ended.
        """
        while True:
            left = math.inf if deadline is None else deadline - time.monotonic()
            try:
                return piece.future.result(max(0.0, min(left, LOOK_SECONDS)))
            except FutureTimeoutError:
                if left <= LOOK_SECONDS or piece.future.done():
                    raise
                thread = self._thread
                if thread is None or not thread.is_alive():
                    raise RuntimeError("the thread that reconstructs has ended") from None

    def wake(self, begin: float, end: float) -> None:
        """Keep the cores busy for a while before work is expected, so that they are fast then.

        Cores that had nothing to do run slowly at first: after a tenth of a second a network takes
        almost twice as long. Work ends it, and so does anybody else's who works in this process.

        Args:
            begin: When to begin, in terms of `time.monotonic()`.
            end: When to give it up.
        """
        with self._lock:
            try:
                self._start()
            except RuntimeError:  # whoever has work for it will tell
                return
            # The thread looks when it has waited until it is to begin, or is told to.
            look = begin < self._awake[0] or self._awake[1] < time.monotonic()
            self._awake = (begin, end)
        if look:
            self._work.put(_LOOK)

    def close(self) -> None:
        """Let the thread end, behind what it is doing, which is asked to stop."""
        with self._lock:
            self._awake = (0.0, 0.0)
            if self._last is not None:
                self._last.give_up()
            if self._thread is not None:
                self._work.put(None)
                self._thread = None

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._work = queue.SimpleQueue()
            # A daemon: a network that hangs must not keep the process from ending.
            thread = threading.Thread(
                target=self._loop, args=(self._work,), name="network", daemon=True
            )
            thread.start()
            self._thread = thread

    def _loop(self, waiting: _Queue) -> None:
        take_over_threads()
        while (piece := self._next(waiting)) is not None:
            self._do(piece)
            # Whoever gave the work can go when he is done with it, and so can this thread.
            del piece

    def _do(self, piece: _Piece[Any]) -> None:
        made, failure = None, None
        with working() as piece.who:
            try:
                made = piece.context.run(piece.work, piece.stop)
            except BaseException as error:  # noqa: BLE001 - whoever waits gets it
                failure = error
        with self._lock:
            if self._last is piece:
                self._last = None
        # Only now may whoever waits go on: he finds the thread free.
        if piece.stop.is_set():
            piece.future.cancel()
        elif failure is not None:
            piece.future.set_exception(failure)
        else:
            piece.future.set_result(made)
        del piece, failure  # an error would keep the piece, and the piece the error

    def _next(self, waiting: _Queue) -> _Piece[Any] | None:
        """The next piece; None at the end."""
        while True:
            with self._lock:
                begin, end = self._awake
            now = time.monotonic()
            try:
                if now >= end:
                    found = waiting.get()
                elif now < begin or anybody_works():
                    found = waiting.get(timeout=max(begin - now, GLANCE))
                else:
                    self._stay_awake()
                    found = waiting.get_nowait()
            except queue.Empty:
                continue
            if found is not _LOOK:
                with self._lock:
                    self._awake = (0.0, 0.0)
                return found

    def _stay_awake(self) -> None:
        try:
            keep_cores_busy()
        except Exception as error:  # noqa: BLE001 - what is done for nothing must harm nobody
            logger.warning("cores are not kept awake: %s: %s", type(error).__name__, error)
            with self._lock:
                self._awake = (0.0, 0.0)


class _Piece(Generic[T]):
    def __init__(self, work: Callable[[threading.Event], T]) -> None:
        self.work = work
        self.stop = threading.Event()
        self.future: Future[T] = Future()
        self.context = contextvars.copy_context()
        self.who: object = None

    def give_up(self) -> None:
        """Nobody waits for it any more: it may stop, and needs no cores for itself."""
        self.stop.set()
        self.work = _nothing  # what it would work on is let go
        give_up(self.who)


_Queue: TypeAlias = "queue.SimpleQueue[_Piece[Any] | None]"


def _nothing(stop: threading.Event) -> Any:
    """No work."""


_LOOK: _Piece[Any] = _Piece(_nothing)
"""Put in line for the thread to look at when it is to be awake."""
