"""Who watches scans: told of them on a thread of their own, so that no scan waits for them."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

from chpnet_stream.streaming.events import ImageReady, ScanEvent

MOST_BYTES = 64 * 2**20
MOST_EVENTS = 200_000

logger = logging.getLogger(__name__)


class ScanObserver(Protocol):
    """Somebody who wants to know."""

    def observe(self, event: ScanEvent) -> None:
        """Take note of an event; called on one thread, in the order of what happened.

        What it raises is logged once, and kept from everybody else.
        """


class Observers:
    """Hands events to all observers, on one thread.

    `emit` costs some microseconds: it keeps references, and never waits or raises. Where the
    observers can't keep up, pictures are left out of the events, not the events themselves.

    Attributes:
        pictures_dropped: Images whose pixels were left out.
        events_lost: Events that were not kept: only where an observer hangs for good.

    Args:
        observers: Whom to tell.
        most_bytes: Pixels that may wait to be looked at, in bytes.
        most_events: Events that may wait.
    """

    def __init__(
        self,
        observers: Iterable[ScanObserver],
        most_bytes: int = MOST_BYTES,
        most_events: int = MOST_EVENTS,
    ) -> None:
        self.observers = tuple(observers)
        self.most_bytes = most_bytes
        self.most_events = most_events
        self.pictures_dropped = 0
        self.events_lost = 0
        self._events: deque[ScanEvent] = deque()
        self._bytes = 0
        self._busy = False
        self._closed = False
        self._change = threading.Condition()
        self._complaints: Counter[tuple[int, str]] = Counter()
        self._thread: threading.Thread | None = None

    def emit(self, event: ScanEvent) -> None:
        """Take over an event."""
        with self._change:
            if self._closed:
                return
            if len(self._events) >= self.most_events:
                self.events_lost += 1
                return
            size = _pixel_bytes(event)
            if size and self._bytes and self._bytes + size > self.most_bytes:
                assert isinstance(event, ImageReady)  # noqa: S101 - only these have pixels
                event, size = replace(event, pixels=None), 0
                self.pictures_dropped += 1
            self._events.append(event)
            self._bytes += size
            if self._thread is None:
                self._begin()
            self._change.notify_all()

    def _begin(self) -> None:
        """Start the thread; where there is none left, the next event tries again."""
        thread = threading.Thread(target=self._loop, name="observers", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if len(self._events) == 1:
                logger.warning("nobody who watches scans is told for now: %s", error)
        else:
            self._thread = thread

    def flush(self, seconds: float = 10.0) -> bool:
        """Wait until every event was told; False where that took too long."""
        limit = time.monotonic() + seconds
        with self._change:
            while self._events or self._busy:
                left = limit - time.monotonic()
                if left <= 0:
                    return False
                self._change.wait(left)
        return True

    def close(self, seconds: float = 10.0) -> None:
        """Tell what waits, for some time at most, and take nothing more."""
        if not self.flush(seconds):
            logger.warning("%d events of scans could not be told in time", len(self._events))
        with self._change:
            self._closed = True
            self._change.notify_all()

    def _loop(self) -> None:
        while True:
            with self._change:
                self._busy = False
                self._change.notify_all()
                while not self._events and not self._closed:
                    self._change.wait()
                if self._closed:
                    return
                event = self._events.popleft()
                self._bytes -= _pixel_bytes(event)
                self._busy = True
            for number, observer in enumerate(self.observers):
                self._tell(number, observer, event)
            del event  # its pixels are not kept while nothing happens

    def _tell(self, number: int, observer: ScanObserver, event: ScanEvent) -> None:
        try:
            observer.observe(event)
        except Exception as error:
            kind = (number, type(error).__name__)
            self._complaints[kind] += 1
            if self._complaints[kind] == 1:
                logger.warning(
                    "%s failed on %s (%s: %s); told once, scans go on",
                    type(observer).__name__,
                    type(event).__name__,
                    type(error).__name__,
                    error,
                    exc_info=True,
                )


def _pixel_bytes(event: ScanEvent) -> int:
    if isinstance(event, ImageReady) and event.pixels is not None:
        return int(event.pixels.nbytes)
    return 0
