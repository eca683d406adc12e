"""What is told of a scan, over real sockets: events, latencies to the last byte, how it ends."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chpnet_stream.metrics import SessionMetrics
from chpnet_stream.mrd.wire.byte_stream import SocketStream
from chpnet_stream.mrd.wire.connection import Connection
from chpnet_stream.mrd.wire.messages import Close
from chpnet_stream.network.weights import MODELS
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.streaming.current import CURRENT_SCAN
from chpnet_stream.streaming.events import (
    DeadlineMissed,
    ImageReady,
    ImageSent,
    ScanEnded,
    ScanOpened,
    ScanStarted,
)
from chpnet_stream.streaming.observer import Observers
from chpnet_stream.streaming.scan import Scan
from chpnet_stream.streaming.watch import ScanWatch
from tests.gadgets.peers import SocketPair, configuration, conversation, exchange, greeting, raw
from tests.scan.building import header_xml
from tests.streaming.test_observer import Recorder


def watched(data: bytes, **defaults: str) -> tuple[list[Any], Any]:
    """The events of a scan, and what came back."""
    recorder = Recorder()
    observers = Observers([recorder])

    def serve(sock: socket.socket) -> None:
        connection = Connection(SocketStream(sock))
        Scan(connection, "acquisitions", defaults=defaults, name="me", observers=observers).run()

    with SocketPair(serve) as pair:
        answer = exchange(pair.socket, data)
    assert observers.flush()
    return recorder.events, answer


def kinds(events: list[Any]) -> list[str]:
    return [type(e).__name__ for e in events]


def test_a_scan_is_told_from_its_beginning_to_its_end(small_scan: Path) -> None:
    events, answer = watched(conversation(small_scan), method="cg-sense")
    assert kinds(events) == [
        "ScanOpened",
        "ScanStarted",
        *["ImageReady", "ImageSent"] * 2,
        "ScanEnded",
    ]
    assert len({e.live.scan_id for e in events}) == 1
    ready = [e for e in events if isinstance(e, ImageReady)]
    assert [e.number for e in ready] == [1, 2]
    for event, image in zip(ready, answer.images, strict=True):
        assert event.pixels is not None
        assert event.pixels.tobytes() == image.data.tobytes()
        assert event.heads[0].slice == image.slice
        assert event.metas[0]["ChpnetMethod"] == "cg-sense"
    started, ended = events[1], events[-1]
    assert isinstance(started, ScanStarted)
    assert started.options.method == "cg-sense"
    assert isinstance(ended, ScanEnded)
    assert (ended.outcome, ended.error, ended.kind) == ("done", "", "")
    assert ended.words.startswith("2 images in")
    live = ended.live
    assert live.images == 2
    assert live.arrived["noise"] == 1
    assert live.arrived["acquisitions"] > 50
    assert live.queue_bytes == 0
    assert live.metrics is not None
    sent = [e.latency_ms for e in events if isinstance(e, ImageSent)]
    assert list(live.metrics.sent_ms) == sent


def test_the_latency_is_that_of_the_last_byte_sent(small_scan: Path) -> None:
    events, answer = watched(conversation(small_scan), method="cg-sense")
    ready = [float(i.meta["ChpnetLatencyMs"]) for i in answer.images]
    sent = [e.latency_ms for e in events if isinstance(e, ImageSent)]
    assert all(s >= r for s, r in zip(sent, ready, strict=True))
    # A peer that takes its time is waited for, and that is counted.
    watch = ScanWatch()
    watch.live.metrics = SessionMetrics()
    for _ in watch.images([object()], time.monotonic() - 0.1):
        time.sleep(0.2)
    (latency,) = watch.live.metrics.sent_ms
    assert latency >= 300


def test_latencies_are_measured_without_observers(small_scan: Path) -> None:
    scans: list[Scan] = []

    def serve(sock: socket.socket) -> None:
        scans.append(Scan(Connection(SocketStream(sock)), "acquisitions"))
        scans[0].run()

    with SocketPair(serve) as pair:
        exchange(pair.socket, conversation(small_scan, configuration(method="rss")))
        pair.thread.join()
    metrics = scans[0].metrics
    assert metrics is not None
    assert len(metrics.sent_ms) == 2
    assert metrics.latency()["max"] == max(metrics.sent_ms)


def test_a_missed_deadline_is_told_once_for_an_image_and_its_baseline() -> None:
    recorder = Recorder()
    observers = Observers([recorder])
    watch = ScanWatch("me", "acquisitions", observers)
    watch.live.metrics = SessionMetrics()
    watch.start(None, ReconstructionOptions(deadline_ms=50))  # type: ignore[arg-type]
    images = list_of_images(2)
    assert len(list(watch.images(images, time.monotonic() - 0.1))) == 2
    assert len(list(watch.images(images, time.monotonic()))) == 2
    assert observers.flush()
    missed = [e for e in recorder.events if isinstance(e, DeadlineMissed)]
    assert [(e.number, e.deadline_ms) for e in missed] == [(1, 50.0)]
    assert watch.live.metrics.deadline_misses == 1
    assert [(e.number, e.beside) for e in recorder.events if isinstance(e, ImageReady)] == [
        (1, False),
        (1, True),
        (2, False),
        (2, True),
    ]
    assert len(watch.live.metrics.sent_ms) == 2


def list_of_images(count: int) -> list[Any]:
    import ismrmrd
    import numpy as np

    return [ismrmrd.Image.from_array(np.zeros((4, 4), np.float32)) for _ in range(count)]


def test_a_scan_that_is_refused_is_told_in_words() -> None:
    spiral = greeting(header_xml(trajectory="spiral").encode()) + raw(Close())
    events, _ = watched(spiral)
    assert kinds(events) == ["ScanOpened", "ScanStarted", "ScanEnded"]
    ended = events[-1]
    assert (ended.outcome, ended.kind) == ("failed", "UnsupportedScanError")
    assert "spiral" in ended.error


def test_what_is_no_scan_at_all_is_told_too() -> None:
    events, _ = watched(b"GET / HTTP/1.1\r\n\r\n")
    assert kinds(events) == ["ScanOpened", "ScanEnded"]
    assert events[-1].kind == "ProtocolError"


def test_a_peer_that_dies_is_told_as_gone_and_nothing_comes_behind(small_scan: Path) -> None:
    recorder = Recorder()
    observers = Observers([recorder])

    def serve(sock: socket.socket) -> None:
        connection = Connection(SocketStream(sock))
        Scan(connection, "acquisitions", defaults={"method": "rss"}, observers=observers).run()

    with SocketPair(serve) as pair:
        pair.socket.sendall(conversation(small_scan)[:-40_000])
        pair.socket.close()
        pair.thread.join()
    assert observers.flush()
    assert isinstance(recorder.events[-1], ScanEnded)
    assert recorder.events[-1].outcome == "peer gone"
    assert isinstance(recorder.events[0], ScanOpened)


def test_observers_that_fail_or_hang_change_nothing(small_scan: Path) -> None:
    stuck = threading.Event()

    class Bad:
        def observe(self, event: Any) -> None:
            if isinstance(event, ScanStarted):
                stuck.wait(30)
            raise RuntimeError("bad")

    observers = Observers([Bad()], most_bytes=0)

    def serve(sock: socket.socket) -> None:
        connection = Connection(SocketStream(sock))
        Scan(connection, "acquisitions", defaults={"method": "rss"}, observers=observers).run()

    with SocketPair(serve) as pair:
        answer = exchange(pair.socket, conversation(small_scan))
        pair.thread.join()
    assert len(answer.images) == 2
    assert isinstance(answer.messages[-1], Close)
    assert pair.error is None
    stuck.set()


def test_options_that_change_behind_the_header_are_told_and_heeded() -> None:
    recorder = Recorder()
    observers = Observers([recorder])
    watch = ScanWatch("me", "acquisitions", observers)
    first, second = ReconstructionOptions(), ReconstructionOptions(deadline_ms=1)
    watch.start(None, first)  # type: ignore[arg-type]
    watch.change(first)
    watch.change(second)
    list(watch.images(list_of_images(1), time.monotonic() - 1))
    assert observers.flush()
    started = [e.options for e in recorder.events if isinstance(e, ScanStarted)]
    assert started == [first, second]
    assert [e.deadline_ms for e in recorder.events if isinstance(e, DeadlineMissed)] == [1.0]


def test_an_image_that_cannot_be_shown_is_sent_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder()
    observers = Observers([recorder])
    watch = ScanWatch("me", "images", observers)
    message = object()  # no header, no meta
    with caplog.at_level("WARNING", logger="chpnet_stream"):
        assert list(watch.images([message], time.monotonic())) == [message]
    assert "image 1 can't be shown: AttributeError" in caplog.text
    assert observers.flush()
    assert [type(e) for e in recorder.events] == [ImageSent]
    assert watch.live.images == 1


def test_an_image_that_was_not_made_is_not_counted() -> None:
    def none() -> Iterator[Any]:
        raise ValueError("no image")
        yield

    watch = ScanWatch()
    with pytest.raises(ValueError, match="no image"):
        list(watch.images(none(), time.monotonic()))
    assert watch.live.images == 0


def test_the_threads_of_a_scan_know_its_name(
    small_scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chpnet_stream.streaming.acquisitions import AcquisitionHandler

    seen: list[str] = []
    take = AcquisitionHandler.take

    def spying(self: Any, item: Any, received_at: float) -> Iterator[Any]:
        seen.append(CURRENT_SCAN.get())
        return take(self, item, received_at)

    monkeypatch.setattr(AcquisitionHandler, "take", spying)
    events, _ = watched(conversation(small_scan), method="rss")
    assert set(seen) == {events[0].live.scan_id}
    assert CURRENT_SCAN.get() == ""


def test_images_that_pass_the_images_gadget_are_told_too() -> None:
    import numpy as np

    from chpnet_stream.mrd.wire.image_array import ImageArray

    image = list_of_images(1)[0]
    image.data[...] = np.arange(16, dtype=np.float32).reshape(image.data.shape)
    image.slice = 3
    heads = np.empty((2, 1, 1), object)
    for place in range(2):
        heads[place, 0, 0] = image.getHead()
    array = ImageArray(np.zeros((4, 4, 1, 1, 2, 1, 1), np.complex64), heads, [b"", b""])
    recorder = Recorder()
    observers = Observers([recorder])

    def serve(sock: socket.socket) -> None:
        # The model is for k-space: images go on unchanged.
        defaults = {"model": str(MODELS / "chpnet-rt.json")}
        connection = Connection(SocketStream(sock))
        Scan(connection, "images", defaults=defaults, observers=observers).run()

    with SocketPair(serve) as pair:
        data = greeting(header_xml().encode()) + raw(image, array, Close())
        answer = exchange(pair.socket, data)
        pair.thread.join()
    assert observers.flush()
    assert pair.error is None
    one, two = [e for e in recorder.events if isinstance(e, ImageReady)]
    assert one.pixels is not None
    assert one.pixels.tobytes() == answer.images[0].data.tobytes()
    assert one.heads[0].slice == 3
    assert one.metas[0]["ChpnetMethod"] == "passed on"
    assert len(two.heads) == len(two.metas) == 2
    live = one.live
    assert (live.arrived["images"], live.arrived["image arrays"], live.images) == (1, 1, 2)
    assert live.metrics is not None
    assert len(live.metrics.sent_ms) == 2
