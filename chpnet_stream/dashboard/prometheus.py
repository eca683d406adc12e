"""Metrics of all scans for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chpnet_stream import __version__
from chpnet_stream.dashboard.store import ScanStore
from chpnet_stream.methods import METHODS, REASONS
from chpnet_stream.streaming.events import (
    DeadlineMissed,
    ImageReady,
    ImageSent,
    LiveScan,
    ScanEnded,
    ScanEvent,
    ScanOpened,
)
from chpnet_stream.streaming.facts import facts_of
from chpnet_stream.streaming.latencies import EDGES_MS
from chpnet_stream.streaming.observer import Observers

OTHER = "other"
"""Reason of a fallback that is told in somebody else's words."""


class ScanMetrics:
    """Observes scans and counts, in a registry of its own.

    Args:
        store: For the memory that pictures take; None where there is none.
    """

    def __init__(self, store: ScanStore | None = None) -> None:
        from prometheus_client import (
            CollectorRegistry,
            Counter,
            Histogram,
            Info,
            PlatformCollector,
            ProcessCollector,
        )

        self.observers: Observers | None = None
        self.store = store
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        Info("chpnet_build", "Version of chpnet-stream.", registry=registry).info(
            {"version": __version__}
        )
        self.scans = Counter(
            "chpnet_scans", "Scans that have ended, by outcome.", ["outcome"], registry=registry
        )
        self.images = Counter(
            "chpnet_images",
            "Images sent, by the method that made them.",
            ["method"],
            registry=registry,
        )
        self.baselines = Counter(
            "chpnet_baseline_images", "Conventional images sent beside.", registry=registry
        )
        self.fallbacks = Counter(
            "chpnet_fallbacks",
            "Images that are not of the method asked for, by kind of reason.",
            ["reason"],
            registry=registry,
        )
        self.incomplete = Counter(
            "chpnet_incomplete_images", "Images of slices that lacked lines.", registry=registry
        )
        self.marked = Counter(
            "chpnet_marked_images",
            "Images of data that are marked as doubtful.",
            registry=registry,
        )
        self.misses = Counter(
            "chpnet_deadline_misses", "Images sent later than their deadline.", registry=registry
        )
        self.errors = Counter(
            "chpnet_errors",
            "Scans that ended with an error, by its class.",
            ["error"],
            registry=registry,
        )
        self.latency = Histogram(
            "chpnet_latency_seconds",
            "Last readout received to last byte of the image sent.",
            buckets=[ms / 1000 for ms in EDGES_MS],
            registry=registry,
        )
        self.stages = Counter(
            "chpnet_stage_seconds",
            "Time spent, by step of the reconstruction.",
            ["stage"],
            registry=registry,
        )
        # There at 0 from the start: `increase` does not see the first one of a label that is new.
        for outcome in ("done", "failed", "peer gone"):
            self.scans.labels(outcome)
        for method in METHODS:
            self.images.labels(method)
        for reason in (*REASONS, OTHER):
            self.fallbacks.labels(reason)
        # Scans that go on, and the acquisitions of those that have ended: changed in one step, or
        # a counter that is read in between would seem to have begun anew.
        self._going: tuple[dict[str, LiveScan], int] = ({}, 0)
        self._spent: dict[str, dict[str, float]] = {}
        registry.register(_Gauges(self))

    def observe(self, event: ScanEvent) -> None:
        """See `ScanObserver.observe`."""
        scan_id = event.live.scan_id
        going, arrived = self._going
        if isinstance(event, ScanOpened):
            self._going = {**going, scan_id: event.live}, arrived
        elif isinstance(event, ImageReady):
            self._count(event)
        elif isinstance(event, ImageSent):
            self._time(event)
        elif isinstance(event, DeadlineMissed):
            self.misses.inc()
        elif isinstance(event, ScanEnded):
            arrived += dict(event.live.arrived).get("acquisitions", 0)
            self._going = {k: v for k, v in going.items() if k != scan_id}, arrived
            self._spent.pop(scan_id, None)
            self.scans.labels(event.outcome).inc()
            if event.kind:
                self.errors.labels(event.kind).inc()

    def page(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics as text, and its content type.

        Args:
            accept: The header of the request: Prometheus' or OpenMetrics' format.
        """
        from prometheus_client.exposition import choose_encoder

        encoder, kind = choose_encoder(accept)
        return encoder(self.registry), kind

    def _count(self, event: ImageReady) -> None:
        for facts in facts_of(event):
            if event.beside:
                self.baselines.inc()
                continue
            self.images.labels(facts.method or "unknown").inc()
            if facts.missing_lines:
                self.incomplete.inc()
            if facts.mark is not None:
                self.marked.inc()
            if facts.fallback_kind is not None:
                self.fallbacks.labels(_reason(event, facts.fallback_kind)).inc()

    def _time(self, event: ImageSent) -> None:
        if not event.beside:
            self.latency.observe(event.latency_ms / 1000)
        spent = self._spent.setdefault(event.live.scan_id, {})
        for stage, milliseconds in event.stages_ms.items():
            self.stages.labels(stage).inc(max(0.0, milliseconds - spent.get(stage, 0.0)) / 1000)
            spent[stage] = milliseconds


def _reason(event: ImageReady, kind: str) -> str:
    """A kind of fallback that this scan has counted itself; "other" for what a peer has written.

    Labels live as long as the process: words from outside must not become any.
    """
    metrics = event.live.metrics
    return kind if metrics is not None and kind in metrics.fallbacks else OTHER


class _Gauges:
    """What is so at the moment of asking."""

    def __init__(self, metrics: ScanMetrics) -> None:
        self.metrics = metrics

    def collect(self) -> Iterator[Any]:
        """See prometheus_client's collectors."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        metrics = self.metrics
        going, arrived = metrics._going
        live = list(going.values())
        yield GaugeMetricFamily(
            "chpnet_open_connections", "Peers connected, with a scan or before it.", len(live)
        )
        yield GaugeMetricFamily(
            "chpnet_running_scans",
            "Scans whose data are coming.",
            sum(bool(one.first_item_at) for one in live),
        )
        yield GaugeMetricFamily(
            "chpnet_queue_bytes",
            "Bytes received and not worked on yet.",
            sum(one.queue_bytes for one in live),
        )
        arrived += sum(dict(one.arrived).get("acquisitions", 0) for one in live)
        yield CounterMetricFamily("chpnet_acquisitions", "Acquisitions received.", arrived)
        if metrics.store is not None:
            yield GaugeMetricFamily(
                "chpnet_dashboard_picture_bytes",
                "Memory of the live view's pictures.",
                metrics.store.picture_bytes,
            )
        if metrics.observers is not None:
            yield CounterMetricFamily(
                "chpnet_pictures_dropped",
                "Images that the live view had no time for; they were sent and counted.",
                metrics.observers.pictures_dropped,
            )
            yield CounterMetricFamily(
                "chpnet_events_lost",
                "Events that were not counted: an observer hangs.",
                metrics.observers.events_lost,
            )
