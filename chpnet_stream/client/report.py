"""What came of sending a scan."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from chpnet_stream.errors import ChpnetError
from chpnet_stream.metrics import percentiles

Key = tuple[int, ...]


@dataclass
class SendReport:
    """What was sent and what came back.

    Attributes:
        sent: Items sent, by kind.
        received: Images received, by image_series_index and by the counters of their lines.
        latencies_ms: Last line of the slice sent to its image received, for every image that
            belongs to lines of the scan.
        others: Other messages received, by kind.
        texts: What the server said.
        seconds: From the first byte sent to the last one received.
        gaps: Pauses in the time stamps that were left out.
        closed: The server has said CLOSE.
        error: What went wrong; None where everything came.
    """

    sent: Counter[str] = field(default_factory=Counter)
    received: dict[int, Counter[Key]] = field(default_factory=lambda: defaultdict(Counter))
    latencies_ms: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)
    seconds: float = 0.0
    gaps: int = 0
    closed: bool = False
    error: ChpnetError | None = None

    @property
    def images(self) -> int:
        """Images received, in all series."""
        return sum(self.series.values())

    @property
    def series(self) -> dict[int, int]:
        """Images received, by image_series_index."""
        return {n: sum(keys.values()) for n, keys in sorted(self.received.copy().items())}

    def latency(self) -> dict[str, float]:
        """p50, p95, p99, max and the first latency in milliseconds; empty if there is none."""
        return percentiles(self.latencies_ms)
