"""What has come in and is not worked on yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from chpnet_stream.mrd.wire.bucket import Bucket
from chpnet_stream.mrd.wire.image import WireImage
from chpnet_stream.mrd.wire.image_array import ImageArray
from chpnet_stream.mrd.wire.recon_data import ReconBuffer, ReconData

INBOX_BYTES = 512 * 2**20
OBJECT_BYTES = 4096
"""What an item costs beside its samples."""


class Inbox:
    """A queue with a bound in bytes, between one thread that reads and one that works.

    A single item may be larger than the bound: it then waits until the queue is empty.

    Args:
        most_bytes: Bound. The reader waits where it is reached, and so, in the end, does the peer.
    """

    def __init__(self, most_bytes: int = INBOX_BYTES) -> None:
        self.most_bytes = most_bytes
        self.most_seen = 0
        self._items: deque[tuple[Any, float, int]] = deque()
        self._bytes = 0
        self._ended = False
        self._error: BaseException | None = None
        self._abandoned = False
        self._change = threading.Condition()

    def put(self, item: Any, received_at: float) -> bool:
        """Add an item; waits while the queue is full. False where nobody takes it any more.

        Args:
            item: The item.
            received_at: `time.monotonic()` when its last byte came.
        """
        size = size_of(item)
        with self._change:
            while self._bytes and self._bytes + size > self.most_bytes and not self._abandoned:
                self._change.wait()
            if self._abandoned:
                return False
            self._items.append((item, received_at, size))
            self._bytes += size
            self.most_seen = max(self.most_seen, self._bytes)
            self._change.notify_all()
            return True

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes; the worker gets `error`, if there is one, behind the last item."""
        with self._change:
            self._ended = True
            self._error = error
            self._change.notify_all()

    def abandon(self) -> None:
        """Forget everything, now and from now on: both sides stop waiting."""
        with self._change:
            self._abandoned = True
            self._items.clear()
            self._bytes = 0
            self._change.notify_all()

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait to be worked on."""
        return self._bytes

    @property
    def abandoned(self) -> bool:
        """Whether the scan was given up."""
        return self._abandoned

    def __iter__(self) -> Iterator[tuple[Any, float]]:
        """Items with the time they came, up to the end.

        Raises:
            BaseException: What `end` was given.
        """
        while True:
            with self._change:
                while not (self._items or self._ended or self._abandoned):
                    self._change.wait()
                if not self._items:
                    if self._error is not None and not self._abandoned:
                        raise self._error
                    return
                item, received_at, size = self._items.popleft()
                self._bytes -= size
                self._change.notify_all()
            yield item, received_at


def size_of(item: Any) -> int:
    """About how much memory an item takes."""
    if isinstance(item, ReconData):
        buffers = [b for bit in item for b in (bit.data, bit.reference) if b is not None]
        return OBJECT_BYTES + sum(map(_size_of_buffer, buffers))
    if isinstance(item, ImageArray):
        heads = 1 + item.headers.size
        if item.acquisition_headers is not None:
            heads += item.acquisition_headers.size
        beside = sum(map(len, item.meta)) + sum(map(size_of, item.waveforms or ()))
        return OBJECT_BYTES * heads + int(item.data.nbytes) + beside
    if isinstance(item, Bucket):
        return OBJECT_BYTES + sum(map(size_of, [*item.data, *item.reference, *item.waveforms]))
    words = item.unchanged if isinstance(item, WireImage) else getattr(item, "raw", None)
    arrays = (getattr(item, name, None) for name in ("data", "traj"))
    return OBJECT_BYTES + len(words or b"") + sum(int(getattr(a, "nbytes", 0)) for a in arrays)


def _size_of_buffer(buffer: ReconBuffer) -> int:
    arrays = (buffer.data, buffer.trajectory, buffer.density)
    return OBJECT_BYTES * buffer.headers.size + sum(a.nbytes for a in arrays if a is not None)
