"""Work that must be ready in time, or is given up."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Generic, TypeVar

import torch
from torch import Tensor

from chpnet_stream.network.normal import ColumnNormal, NarrowNormal, Normal

T = TypeVar("T")


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


class DeadlineRunner(Generic[T]):
    """Runs one piece of work after the other on a thread of its own, and waits until a deadline.

    Late work goes on until it looks at its event, and its result is dropped; the next piece
    begins when it has ended.

    Attributes:
        dropped: Results that came too late or were never begun.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._work: queue.SimpleQueue[_Piece[T] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, work: Callable[[threading.Event], T], deadline: float) -> T:
        """Run `work` and return its result.

        Args:
            work: Called with an event that is set when it is given up.
            deadline: In terms of `time.monotonic()`.

        Raises:
            TooLateError: The deadline passed.
            Exception: Whatever the work raised.
        """
        if time.monotonic() >= deadline:
            self.dropped += 1
            raise TooLateError
        if self._thread is None:
            # A daemon: a network that hangs must not keep the process from ending.
            self._thread = threading.Thread(target=self._loop, name="network", daemon=True)
            self._thread.start()
        piece = _Piece(work)
        self._work.put(piece)
        try:
            return piece.future.result(timeout=deadline - time.monotonic())
        except FutureTimeoutError:
            if piece.future.done():
                return piece.future.result()
            piece.stop.set()
            piece.work = None  # behind a network that hangs, slices must not pile up
            self.dropped += 1
            raise TooLateError from None

    def close(self) -> None:
        """End the thread, and give up what runs there."""
        if self._thread is not None:
            self._work.put(None)

    def _loop(self) -> None:
        torch.get_num_threads()  # a new thread takes over the number only by asking for it
        while (piece := self._work.get()) is not None:
            work = piece.work
            if piece.stop.is_set() or work is None:
                continue
            try:
                piece.future.set_result(work(piece.stop))
            except BaseException as error:  # noqa: BLE001 - whoever waits gets it
                piece.future.set_exception(error)


class _Piece(Generic[T]):
    def __init__(self, work: Callable[[threading.Event], T]) -> None:
        self.work: Callable[[threading.Event], T] | None = work
        self.stop = threading.Event()
        self.future: Future[T] = Future()
