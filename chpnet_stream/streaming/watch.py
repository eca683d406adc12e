"""Follows one scan: latencies up to the last byte sent, and events for observers."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import ismrmrd

from chpnet_stream.errors import EmptyScanError
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.wire.image_array import ImageArray
from chpnet_stream.streaming.current import new_scan_id
from chpnet_stream.streaming.events import (
    DeadlineMissed,
    ImageReady,
    ImageSent,
    LiveScan,
    Outcome,
    ScanEnded,
    ScanEvent,
    ScanOpened,
    ScanStarted,
)
from chpnet_stream.streaming.observer import Observers

if TYPE_CHECKING:
    from chpnet_stream.mrd.header import ScanHeader
    from chpnet_stream.options import ReconstructionOptions

logger = logging.getLogger(__name__)

KINDS = (
    (ismrmrd.Acquisition, "acquisitions"),
    (ismrmrd.Waveform, "waveforms"),
    (ismrmrd.Image, "images"),
    (ImageArray, "image arrays"),
)


class ScanWatch:
    """Follows one scan.

    Latencies are measured here, with or without observers: from the last readout of a slice
    received to the last byte of its image handed to the connection.

    Attributes:
        live: The scan as it stands.

    Args:
        name: Who it is, for people.
        kind: What comes in.
        observers: Whom to tell; nobody by default.
    """

    def __init__(self, name: str = "", kind: str = "", observers: Observers | None = None) -> None:
        self.live = LiveScan(new_scan_id(), name, kind, time.time())
        self.deadline_ms = 0.0
        self._started: ScanStarted | None = None
        self._observers = observers

    def open(self) -> None:
        """There is a peer."""
        self._emit(ScanOpened(self.live))

    def start(self, header: ScanHeader, options: ReconstructionOptions) -> None:
        """The scan's header was read."""
        self.deadline_ms = options.deadline_ms
        self._started = ScanStarted(self.live, header, options)
        self._emit(self._started)

    def change(self, options: ReconstructionOptions) -> None:
        """These options hold from here on; told where they are others than at the start."""
        self.deadline_ms = options.deadline_ms
        if self._started is not None and self._started.options != options:
            self.start(self._started.header, options)

    def came(self, item: Any) -> None:
        """An item was read from the peer; on the reading thread."""
        live = self.live
        live.last_item_at = time.time()
        if not live.first_item_at:
            live.first_item_at = live.last_item_at
        kind = next((name for of, name in KINDS if isinstance(item, of)), "other items")
        live.arrived[kind] += 1
        if kind == "acquisitions" and int(item.flags) & flags.NOISE:
            live.arrived["noise"] += 1

    def others(self, takes: str) -> EmptyScanError | None:
        """The error of a scan of which a gadget got something, and nothing that it takes.

        Args:
            takes: What it takes: acquisitions, buffers or images.

        Returns:
            None where nothing else came that images are made of.
        """
        arrived = dict(self.live.arrived)
        came = {
            "acquisitions": arrived.get("acquisitions", 0) - arrived.get("noise", 0),
            "images": arrived.get("images", 0) + arrived.get("image arrays", 0),
            "buffers": arrived.get("other items", 0),
        }
        words = ", ".join(f"{n} {what}" for what, n in came.items() if n and what != takes)
        if not words:
            return None
        return EmptyScanError(
            f"found no image data in the scan: {words}, where this gadget takes {takes}; check the "
            "chain (`chpnet-stream chain`), or --gadget of the server"
        )

    def images(self, messages: Iterable[Any], received_at: float) -> Iterator[Any]:
        """The messages of one slice's image, watched on their way out.

        Whoever takes them asks for the next one when the one before has been sent.

        Args:
            messages: The image; behind it, where it is asked for, the baseline.
            received_at: When the slice's last readout came, in terms of `time.monotonic()`.
        """
        live = self.live
        number = live.images + 1
        for place, message in enumerate(messages):
            live.images = number
            beside = place > 0
            if self._observers is not None:
                self._show(number, beside, message)
            yield message
            latency = 1e3 * (time.monotonic() - received_at)
            self._note(number, beside, latency)

    def end(self, outcome: Outcome, words: str, error: str = "", kind: str = "") -> None:
        """The scan is over. Nothing is told of what its thread may still do for a moment.

        Args:
            outcome: How it ended.
            words: What was done.
            error: What went wrong.
            kind: Name of the error's class.
        """
        seconds = time.monotonic() - self.live.began
        self._emit(ScanEnded(self.live, outcome, error, kind, words, time.time(), seconds))
        self._observers = None

    def _show(self, number: int, beside: bool, message: Any) -> None:
        try:
            self._emit(_ready(self.live, number, beside, message))
        except Exception as error:  # noqa: BLE001 - what can't be shown is sent all the same
            logger.warning("image %d can't be shown: %s: %s", number, type(error).__name__, error)

    def _note(self, number: int, beside: bool, latency: float) -> None:
        live, metrics = self.live, self.live.metrics
        missed = not beside and 0 < self.deadline_ms < latency
        if metrics is not None and not beside:
            metrics.sent_ms.append(latency)
            metrics.deadline_misses += missed
        if self._observers is not None:
            stages = {} if metrics is None else dict(metrics.stages_ms)
            self._emit(ImageSent(live, number, beside, latency, stages))
            if missed:
                self._emit(DeadlineMissed(live, number, latency, self.deadline_ms))

    def _emit(self, event: ScanEvent) -> None:
        observers = self._observers
        if observers is not None:
            observers.emit(event)


def _ready(live: LiveScan, number: int, beside: bool, message: Any) -> ImageReady:
    """The event of a message; references only."""
    if isinstance(message, ImageArray):
        heads = tuple(message.headers.ravel(order="F"))
        metas: tuple[Any, ...] = tuple(message.meta)
    else:
        heads, metas = (message.getHead(),), (message.meta,)
    return ImageReady(live, number, beside, heads, metas, message.data, time.time())
