"""Reads a connection on this thread, works and sends on another."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from chpnet_stream.errors import ChpnetError, PeerGoneError
from chpnet_stream.mrd.wire.connection import DRAIN_SECONDS, Connection
from chpnet_stream.streaming.inbox import INBOX_BYTES, Inbox
from chpnet_stream.streaming.watch import ScanWatch

WATCH_SECONDS = 0.05
"""How often the peer is looked after when nothing more is read from it."""

logger = logging.getLogger(__name__)


class Handler(Protocol):
    """What is done with the items of one scan.

    What it gives is sent at once, and the next is asked for when that has been done: a generator
    goes on behind its `yield` when the last byte was sent.
    """

    def take(self, item: Any, received_at: float) -> Iterable[Any]:
        """Take an item; gives what is to be sent, in order."""

    def finish(self) -> Iterable[Any]:
        """What is still to be sent at the end of the scan."""

    def close(self) -> None:
        """Let go of threads; called at the end, however that came."""


def run_scan(
    connection: Connection,
    prepare: Callable[[], Handler],
    inbox_bytes: int = INBOX_BYTES,
    watch: ScanWatch | None = None,
) -> None:
    """One scan, from the first item to CLOSE, on a connection that has been greeted.

    The reader waits for the work only where `inbox_bytes` are waiting. On failure the peer is told
    before this raises; on success it gets CLOSE.

    Args:
        connection: The connection.
        prepare: Makes the handler, on the working thread: it may take its time (imports, models)
            while items come in.
        inbox_bytes: Bound of what may wait.
        watch: Follows the scan.

    Raises:
        PeerGoneError: The peer went away; work may go on for a moment on its daemon thread, and
            ends with the slice that it is at.
        Exception: Whatever went wrong, in the order that it was noticed.
    """
    inbox = Inbox(inbox_bytes)
    watch = watch or ScanWatch()
    watch.live.inbox = inbox
    worker = _Worker(connection, prepare, inbox)
    worker.start()
    damaged = False
    try:
        for item in connection:
            received_at = time.monotonic()
            watch.came(item)
            inbox.put(item, received_at)
        inbox.end()
    except PeerGoneError:
        inbox.abandon()
        if worker.failure is None:
            raise
    except Exception as error:  # noqa: BLE001 - the worker raises it behind the last good item
        inbox.end(error)
        damaged = True
    worker.wait()
    if damaged:
        connection.drain()
    if worker.failure is not None:
        raise worker.failure


def abandoned_work() -> list[threading.Thread]:
    """Threads that still work on scans whose peers are gone; each ends with its slice."""
    return [thread for thread in threading.enumerate() if isinstance(thread, _Worker)]


class _Worker(threading.Thread):
    def __init__(
        self, connection: Connection, prepare: Callable[[], Handler], inbox: Inbox
    ) -> None:
        super().__init__(name="scan", daemon=True)
        self.connection = connection
        self.prepare = prepare
        self.inbox = inbox
        self.context = contextvars.copy_context()
        self.failure: BaseException | None = None
        self.finished = False
        self.limit = threading.Timer(DRAIN_SECONDS, connection.hang_up)
        self.limit.daemon = True

    def run(self) -> None:
        try:
            self.context.run(self._work)
        except BaseException as error:  # noqa: BLE001 - the peer and the reader must know
            self.failure = error
            self.inbox.abandon()
            self.connection.fail(tell(error))
            # The reader takes and forgets what the peer still sends, but not for ever.
            self.limit.start()

    def _work(self) -> None:
        with contextlib.closing(self.prepare()) as handler:
            for item, received_at in self.inbox:
                for made in handler.take(item, received_at):
                    self.connection.send(made)
            if self.inbox.abandoned:
                return
            for made in handler.finish():
                self.connection.send(made)
        self.finished = True  # from here on the peer may go
        self.connection.close()

    def wait(self) -> None:
        """Wait for the end of the work, as long as there is somebody to work for.

        Raises:
            PeerGoneError: The peer went away meanwhile.
        """
        while self.is_alive():
            self.join(WATCH_SECONDS)
            gone = self.connection.peer == "gadgetron" and self.connection.stream.is_dead()
            if gone and not self.finished and self.failure is None and self.is_alive():
                self.inbox.abandon()
                raise PeerGoneError(
                    "the peer went away before all images were sent, expected it to wait for "
                    "CLOSE; it died or was stopped"
                )
        self.limit.cancel()


def tell(error: BaseException) -> str:
    """An error in one line, for a peer."""
    text = " ".join(str(error).split())
    if isinstance(error, ChpnetError):
        return f"chpnet-stream: {text}"
    return f"chpnet-stream: unexpected {type(error).__name__}: {text}"
