"""Events reach observers in order, cost the scan nothing, and are never lost but for pixels."""

import threading
import time
from typing import Any

import numpy as np
import pytest

from chpnet_stream.streaming.events import ImageReady, ImageSent, LiveScan, ScanOpened
from chpnet_stream.streaming.observer import Observers

LIVE = LiveScan("id", "scan 1", "acquisitions", 0.0)


def ready(number: int, pixels: Any = None) -> ImageReady:
    return ImageReady(LIVE, number, False, (), (), pixels, 0.0)


def sent(number: int) -> ImageSent:
    return ImageSent(LIVE, number, False, 1.0, {})


class Recorder:
    def __init__(self) -> None:
        self.events: list[Any] = []
        self.threads: set[int] = set()

    def observe(self, event: Any) -> None:
        self.threads.add(threading.get_ident())
        self.events.append(event)


class Gate(Recorder):
    """Waits before it takes the first event."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    def observe(self, event: Any) -> None:
        self.open.wait(30)
        super().observe(event)


def test_everything_is_told_in_order_on_another_thread() -> None:
    first, second = Recorder(), Recorder()
    observers = Observers([first, second])
    events = [ScanOpened(LIVE), *(sent(n) for n in range(500))]
    for event in events:
        observers.emit(event)
    assert observers.flush()
    assert first.events == second.events == events
    assert first.threads.isdisjoint({threading.get_ident()})
    assert len(first.threads) == 1


def test_a_slow_observer_costs_pictures_not_counts_and_no_time() -> None:
    gate = Gate()
    observers = Observers([gate], most_bytes=3000)
    pixels = np.zeros(1000, np.uint8)
    started = time.perf_counter()
    for number in range(200):
        observers.emit(ready(number, pixels))
        observers.emit(sent(number))
    assert time.perf_counter() - started < 5  # the gate is shut all the time
    gate.open.set()
    assert observers.flush()
    told = [e for e in gate.events if isinstance(e, ImageReady)]
    assert [e.number for e in told] == list(range(200))
    assert len(gate.events) == 400
    with_pixels = [e.number for e in told if e.pixels is not None]
    assert with_pixels[:3] == [0, 1, 2]
    assert len(with_pixels) in (3, 4)  # one may have been taken out of the queue at once
    assert observers.pictures_dropped == 200 - len(with_pixels)
    assert observers.events_lost == 0


def test_a_picture_larger_than_the_bound_is_told_where_nothing_else_waits() -> None:
    recorder = Recorder()
    observers = Observers([recorder], most_bytes=10)
    observers.emit(ready(1, np.zeros(1000)))
    assert observers.flush()
    assert recorder.events[0].pixels is not None


def test_memory_is_bounded_even_where_an_observer_hangs_for_good() -> None:
    gate = Gate()
    observers = Observers([gate], most_events=50)
    for number in range(200):
        observers.emit(sent(number))
    assert observers.events_lost in (149, 150)
    assert not observers.flush(0.01)
    gate.open.set()
    assert observers.flush()
    assert len(gate.events) + observers.events_lost == 200


def test_an_observer_that_fails_is_told_of_once_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def observe(self, event: Any) -> None:
            raise ValueError("no disk")

    good = Recorder()
    observers = Observers([Broken(), good])
    with caplog.at_level("WARNING", logger="chpnet_stream"):
        for number in range(10):
            observers.emit(sent(number))
        assert observers.flush()
    assert len(good.events) == 10
    (record,) = caplog.records
    assert "Broken failed on ImageSent (ValueError: no disk)" in record.getMessage()


def test_nothing_is_taken_after_the_end() -> None:
    recorder = Recorder()
    observers = Observers([recorder])
    observers.emit(sent(1))
    observers.close()
    observers.emit(sent(2))
    assert [e.number for e in recorder.events] == [1]


def test_no_pixels_are_kept_while_nothing_happens() -> None:
    import gc
    import weakref

    recorder = Recorder()
    observers = Observers([recorder])
    pixels = np.zeros(10)
    gone = weakref.ref(pixels)
    observers.emit(ready(1, pixels))
    assert observers.flush()
    recorder.events.clear()
    del pixels
    end = time.monotonic() + 30
    while gone() is not None and time.monotonic() < end:  # the thread lets go in its own time
        gc.collect()
        time.sleep(0.01)
    assert gone() is None


def test_without_a_thread_scans_go_on_and_events_wait_for_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    recorder = Recorder()
    observers = Observers([recorder])
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        observers.emit(sent(1))
        observers.emit(sent(2))
    assert caplog.messages == ["nobody who watches scans is told for now: can't start new thread"]
    observers.emit(sent(3))
    assert observers.flush()
    assert [event.number for event in recorder.events] == [1, 2, 3]
