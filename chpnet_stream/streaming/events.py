"""What can be told of a scan while it runs: small records, handed over by reference.

No record holds anything of the patient but the header as it came, which observers must pick from
(`chpnet_stream.dashboard.header_view` does).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

    from chpnet_stream.metrics import SessionMetrics
    from chpnet_stream.mrd.header import ScanHeader
    from chpnet_stream.options import ReconstructionOptions
    from chpnet_stream.streaming.inbox import Inbox

Outcome = Literal["done", "failed", "peer gone"]


@dataclass
class LiveScan:
    """A scan as it stands now; any thread may read it, only the scan's own write it.

    Attributes:
        scan_id: Its name (`current.new_scan_id`).
        name: Who it is, as in the log: "scan 3 from 127.0.0.1".
        kind: What comes in.
        opened_at: `time.time()` when the connection was there.
        arrived: Items read from the peer, by kind: "acquisitions" (of which "noise"), "images"...
        first_item_at: `time.time()` of the first item; 0 before that.
        last_item_at: `time.time()` of the newest item.
        inbox: What has come in and is not worked on yet; None before the first item.
        metrics: Counters and latencies; None until the handler is there.
        images: Images sent (with a baseline beside, the two are one).
        began: `time.monotonic()` when the connection was there: clocks are set, this one is not.
    """

    scan_id: str
    name: str
    kind: str
    opened_at: float
    arrived: Counter[str] = field(default_factory=Counter)
    first_item_at: float = 0.0
    last_item_at: float = 0.0
    inbox: Inbox | None = None
    metrics: SessionMetrics | None = None
    images: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def queue_bytes(self) -> int:
        """Bytes that wait to be worked on."""
        return 0 if self.inbox is None else self.inbox.waiting_bytes


@dataclass(frozen=True)
class ScanOpened:
    """A peer has connected; its header has not come yet."""

    live: LiveScan


@dataclass(frozen=True)
class ScanStarted:
    """The header was read; whether the scan can be done is looked at next.

    Told again where a client changes its options behind the header.
    """

    live: LiveScan
    header: ScanHeader
    options: ReconstructionOptions


@dataclass(frozen=True)
class ImageReady:
    """An image is about to be sent.

    Attributes:
        live: Its scan.
        number: Of the image in the scan, from 1; that of the baseline is the same.
        beside: A second image of the same slice: the baseline of `send_baseline`.
        heads: `ismrmrd.ImageHeader` of every plane; one, but for image arrays.
        metas: Their meta, `ismrmrd.Meta` or XML.
        pixels: As they are sent: `channels z y x`, or `x y z channels n s loc` of image arrays.
            None where too much was waiting to be looked at.
        at: `time.time()`.
    """

    live: LiveScan
    number: int
    beside: bool
    heads: tuple[Any, ...]
    metas: tuple[Any, ...]
    pixels: np.ndarray | None
    at: float


@dataclass(frozen=True)
class ImageSent:
    """The last byte of an image was handed to the peer's connection.

    Attributes:
        live: Its scan.
        number: As in `ImageReady`.
        beside: As in `ImageReady`.
        latency_ms: Last readout received to last byte sent, in milliseconds.
        stages_ms: Time of the steps so far, summed over the scan's images, in milliseconds.
    """

    live: LiveScan
    number: int
    beside: bool
    latency_ms: float
    stages_ms: Mapping[str, float]


@dataclass(frozen=True)
class DeadlineMissed:
    """An image was sent later than `deadline_ms` after its last readout."""

    live: LiveScan
    number: int
    latency_ms: float
    deadline_ms: float


@dataclass(frozen=True)
class ScanEnded:
    """The scan is over.

    Attributes:
        live: The scan; its counters stand still from here on.
        outcome: done; failed: the peer was told of an error; peer gone: there is nobody to tell.
        error: What went wrong, in words; empty where all went well.
        kind: Name of the error's class; empty where all went well.
        words: What was done, in words, as in the log.
        at: `time.time()`.
        seconds: From the connection to the end.
    """

    live: LiveScan
    outcome: Outcome
    error: str
    kind: str
    words: str
    at: float
    seconds: float


ScanEvent = ScanOpened | ScanStarted | ImageReady | ImageSent | DeadlineMissed | ScanEnded
