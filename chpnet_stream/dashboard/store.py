"""Scans and pictures for the page, in bounded memory."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, deque
from typing import Any

from chpnet_stream.dashboard.picture import Picture, picture, planes_of
from chpnet_stream.streaming.events import (
    DeadlineMissed,
    ImageReady,
    ImageSent,
    ScanEnded,
    ScanEvent,
    ScanOpened,
)
from chpnet_stream.streaming.observer import Observers
from chpnet_stream.streaming.record import ScanRecord, iso

MOST_SCANS = 30
MOST_PICTURES = 4000
MEGABYTE = 10**6
NUMBERS = 2**20
"""Numbers of pictures that a store has for itself: more than come between two starts."""


class ScanStore:
    """Observes scans and keeps what the page shows of them.

    Kept are the newest scans, and their newest pictures up to a number of bytes: the oldest go
    first, whatever scan they are of. Running scans are never forgotten.

    Attributes:
        picture_bytes: Bytes of the pictures that are kept.
        started_at: `time.time()`.

    Args:
        picture_megabytes: Most bytes of pictures, in MB.
        show_patient: Show what the header says of the patient.
        most_scans: Scans that are listed.
        most_pictures: Pictures kept, whatever their size.
    """

    def __init__(
        self,
        picture_megabytes: int = 256,
        *,
        show_patient: bool = False,
        most_scans: int = MOST_SCANS,
        most_pictures: int = MOST_PICTURES,
    ) -> None:
        self.picture_megabytes = picture_megabytes
        self.show_patient = show_patient
        self.most_scans = most_scans
        self.most_pictures = most_pictures
        self.picture_bytes = 0
        self.started_at = time.time()
        self.observers: Observers | None = None
        self._lock = threading.Lock()
        self._scans: OrderedDict[str, ScanRecord] = OrderedDict()
        self._pictures: OrderedDict[int, Picture] = OrderedDict()
        self._changed: dict[int, int] = {}  # picture -> change at which its facts were completed
        self._newest: deque[Picture] = deque(maxlen=64)  # those whose latency is still to come
        # An open page outlives the server, and keeps pixels by their number: those of another
        # server's pictures must have others. All stay below 2**53, which JavaScript can count to.
        self._number = secrets.randbits(32) * NUMBERS
        self._change = 0
        self._counts = {"scans": 0, "failed": 0, "images": 0, "misses": 0}

    def observe(self, event: ScanEvent) -> None:
        """See `ScanObserver.observe`."""
        made = self._pictures_of(event) if isinstance(event, ImageReady) else []
        with self._lock:
            self._change += 1
            scan_id = event.live.scan_id
            if isinstance(event, ScanOpened):
                self._scans[scan_id] = ScanRecord(event.live, show_patient=self.show_patient)
                self._counts["scans"] += 1
                self._forget_scans()
            record = self._scans.get(scan_id)
            if record is None:
                return
            record.apply(event)
            for one in made:
                self._keep(one)
            if isinstance(event, ImageReady):
                self._counts["images"] += not event.beside
            elif isinstance(event, ImageSent):
                self._time(event, record)
            elif isinstance(event, DeadlineMissed):
                self._counts["misses"] += 1
            elif isinstance(event, ScanEnded):
                self._counts["failed"] += event.outcome != "done"

    def state(self) -> dict[str, Any]:
        """What holds for the whole server."""
        with self._lock:
            scans = list(self._scans.values())
            told: dict[str, Any] = dict(self._counts)
            pictures = len(self._pictures)
            oldest = next(iter(self._pictures), self._number + 1)
        running = [s for s in scans if s.ended is None]
        observers = self.observers
        return told | {
            "running": len(running),
            "queue_bytes": sum(s.live.queue_bytes for s in running),
            "pictures": pictures,
            "picture_bytes": self.picture_bytes,
            "picture_limit_bytes": self.picture_megabytes * MEGABYTE,
            "pictures_dropped": observers.pictures_dropped if observers else 0,
            "oldest_picture": oldest,
            "since": iso(self.started_at),
            "now": iso(time.time()),
            "order": [s.live.scan_id for s in reversed(scans)],
        }

    def scans(self, seen: dict[str, Any]) -> list[dict[str, Any]]:
        """Scans that have changed since somebody looked, newest first.

        Args:
            seen: What that somebody has seen; brought up to date.
        """
        found = []
        with self._lock:
            for scan_id in [s for s in seen if s not in self._scans]:
                del seen[scan_id]
            for scan_id, record in reversed(self._scans.items()):
                # The reader counts what arrives; there is no event for every acquisition.
                mark = (
                    record.version,
                    sum(dict(record.live.arrived).values()),
                    record.ended is None,
                )
                if seen.get(scan_id) != mark:
                    seen[scan_id] = mark
                    found.append(record.told() | {"queue_bytes": record.live.queue_bytes})
        return found

    def pictures(self, since: int) -> tuple[int, list[dict[str, Any]]]:
        """Facts of the pictures that came, or were completed, since a change.

        Args:
            since: What this returned the last time; 0 for all.

        Returns:
            What to ask with the next time, and the facts, oldest picture first.
        """
        with self._lock:
            if since == 0:
                found = [p.facts for p in self._pictures.values()]
            else:
                numbers = sorted(n for n, change in self._changed.items() if change > since)
                found = [self._pictures[n].facts for n in numbers]
            return max(self._change, 1), [dict(facts) for facts in found]

    def picture(self, number: int) -> Picture | None:
        """A picture; None where it is not kept any more."""
        with self._lock:
            return self._pictures.get(number)

    def _pictures_of(self, event: ImageReady) -> list[Picture]:
        made = []
        for facts, plane in planes_of(event):
            self._number += 1
            made.append(picture(self._number, event, facts, plane, event.at))
        return made

    def _keep(self, one: Picture) -> None:
        self._pictures[one.number] = one
        self._changed[one.number] = self._change
        self._newest.append(one)
        self.picture_bytes += len(one.pixels)
        limit = self.picture_megabytes * MEGABYTE
        while len(self._pictures) > 1 and (
            self.picture_bytes > limit or len(self._pictures) > self.most_pictures
        ):
            number, old = self._pictures.popitem(last=False)
            del self._changed[number]
            self.picture_bytes -= len(old.pixels)

    def _time(self, event: ImageSent, record: ScanRecord) -> None:
        """Complete the facts of an image that was sent."""
        deadline = record.deadline_ms
        for one in self._newest:
            facts = one.facts
            mine = facts["scan"] == event.live.scan_id and facts["image"] == event.number
            if mine and facts["beside"] == event.beside and facts["latency_ms"] is None:
                facts["latency_ms"] = round(event.latency_ms, 2)
                facts["late"] = not event.beside and 0 < deadline < event.latency_ms
                if one.number in self._changed:
                    self._changed[one.number] = self._change
        while self._newest and self._newest[0].facts["latency_ms"] is not None:
            self._newest.popleft()

    def _forget_scans(self) -> None:
        over = [s for s, record in self._scans.items() if record.ended is not None]
        for scan_id in over[: max(0, len(self._scans) - self.most_scans)]:
            del self._scans[scan_id]
            for number in [n for n, p in self._pictures.items() if p.scan_id == scan_id]:
                self.picture_bytes -= len(self._pictures.pop(number).pixels)
                del self._changed[number]
