"""Fair turns at the work of a process that several scans share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Lets a number of threads work at a time; the others wait in the order in which they came.

    A scan asks for a turn with every slice, so scans take turns slice by slice. Nobody holds one
    while he waits for his peer: a peer that stalls holds up nobody else.

    Args:
        most: Threads that work at a time.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._free = most
        self._waiting: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and hold it inside of the `with` block."""
        with self._lock:
            called = None
            if self._free:
                self._free -= 1
            else:
                called = threading.Event()
                self._waiting.append(called)
        if called is not None:
            called.wait()
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().set()  # the turn goes straight to who waits longest
                else:
                    self._free += 1
