"""Sessions whose lines come as they are measured: a thread of their own for the slices."""

import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from chpnet_stream import deadline as deadlines
from chpnet_stream.deadline import DeadlineRunner
from chpnet_stream.engines.engine import Engine
from chpnet_stream.errors import MissingCalibrationError
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.session import Session, SessionImage
from tests.sessions import FaultyEngine, quiet_engine, run, simulated

T = TypeVar("T")
PATIENCE = 60.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return quiet_engine(tmp_path_factory.mktemp("quiet"))


def beside(work: Callable[[], T]) -> T:
    """What `work` gives on a thread of its own: a live session lets its maker work alone."""
    with ThreadPoolExecutor(1, "scan") as pool:
        return pool.submit(work).result(PATIENCE)


def live(path: Path, engine: Any = None, **options: Any) -> list[SessionImage]:
    """Images of a scan that is fed to a live session."""
    options.setdefault("method", "cg-sense" if engine is None else "chpnet")

    def work() -> list[SessionImage]:
        with ScanFile(path) as scan:
            session = Session(scan.header, ReconstructionOptions(**options), engine, live=True)
            return list(session.images(scan.acquisitions()))

    return beside(work)


def networks() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "network"]


def wait_for(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("wanted", [{}, {"deadline_ms": 50_000.0}, {"send_baseline": True}])
def test_the_images_are_the_same_and_made_on_one_thread(
    engine: Engine, small_scan: Path, wanted: dict[str, Any]
) -> None:
    where: set[tuple[str, int]] = set()

    def fault(problem: Any) -> Any:
        where.add((threading.current_thread().name, torch.get_num_threads()))
        return engine.run(problem)

    images = live(small_scan, FaultyEngine(engine, fault), **wanted)
    assert where == {("network", torch.get_num_threads())}  # the dry run, too
    _, plain = run(small_scan, engine, **wanted)
    assert [i.result.method for i in images] == [i.result.method for i in plain]
    for image, same in zip(images, plain, strict=True):
        np.testing.assert_array_equal(image.result.image, same.result.image)
        if "send_baseline" in wanted:
            assert image.result.baseline is not None
            assert same.result.baseline is not None
            np.testing.assert_array_equal(image.result.baseline.image, same.result.baseline.image)


def test_a_network_that_never_ends_holds_up_no_image(engine: Engine, small_scan: Path) -> None:
    """Conventional images are made elsewhere then."""
    free = threading.Event()

    def hangs(problem: Any) -> Any:
        free.wait(PATIENCE)
        raise AssertionError("late")

    hung = FaultyEngine(engine, hangs, after=1)  # the dry run is quick
    images = live(small_scan, hung, deadline_ms=300.0)
    free.set()
    assert [i.result.method for i in images] == ["cg-sense"] * 2
    _, plain = run(small_scan)
    for image, same in zip(images, plain, strict=True):
        np.testing.assert_array_equal(image.result.image, same.result.image)


def test_errors_of_a_scan_come_back_to_who_feeds_it(tmp_path: Path) -> None:
    path = simulated(tmp_path, calibration_lines=2)
    with pytest.raises(MissingCalibrationError):
        live(path)


def test_the_thread_ends_with_the_session_even_if_the_scan_fails(
    engine: Engine, small_scan: Path
) -> None:
    def work() -> None:
        with ScanFile(small_scan) as scan:
            session = Session(scan.header, None, engine, live=True)
            assert len(networks()) == 1
            for line in scan.acquisitions():
                if session.feed(line):
                    return  # in the middle

    gc.collect()
    assert wait_for(lambda: not networks())
    beside(work)
    gc.collect()
    assert wait_for(lambda: not networks())


class Spins:
    """Counts what keeps cores busy."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times: list[float] = []
        monkeypatch.setattr(deadlines, "keep_cores_busy", self)

    def __call__(self) -> None:
        self.times.append(time.monotonic())
        time.sleep(0.001)


@pytest.fixture
def spins(monkeypatch: pytest.MonkeyPatch) -> Spins:
    return Spins(monkeypatch)


def test_cores_are_kept_busy_from_begin_to_end(spins: Spins) -> None:
    runner = DeadlineRunner()
    now = time.monotonic()
    runner.wake(now + 0.05, now + 0.15)
    assert wait_for(lambda: bool(spins.times))
    assert wait_for(lambda: time.monotonic() > now + 0.3)
    assert now + 0.05 <= spins.times[0]
    assert spins.times[-1] < now + 0.15
    runner.close()


def test_work_ends_it_at_once(spins: Spins) -> None:
    runner = DeadlineRunner()
    runner.wake(0.0, time.monotonic() + 1e6)
    assert wait_for(lambda: bool(spins.times))
    assert runner.run(lambda stop: len(spins.times)) == runner.run(lambda stop: len(spins.times))
    runner.wake(0.0, time.monotonic() + 1e6)
    seen = len(spins.times)
    assert wait_for(lambda: len(spins.times) > seen)
    runner.close()  # and so does the end


def test_nobody_keeps_cores_from_another_scan_that_works(spins: Spins) -> None:
    one, other = DeadlineRunner(), DeadlineRunner()
    one.wake(0.0, time.monotonic() + 1e6)
    assert wait_for(lambda: bool(spins.times))

    def work(stop: threading.Event) -> int:
        time.sleep(0.05)  # the last turn may still be going on
        seen = len(spins.times)
        time.sleep(0.05)
        return len(spins.times) - seen

    assert other.run(work) == 0
    seen = len(spins.times)
    assert wait_for(lambda: len(spins.times) > seen)
    one.close()
    other.close()


@pytest.mark.parametrize(("wake_ms", "expected"), [(0.0, False), (500.0, True)])
def test_cores_are_woken_for_a_slice_whose_end_is_near(
    small_scan: Path, spins: Spins, wake_ms: float, expected: bool
) -> None:
    begun: list[float] = []

    def work() -> list[bool]:
        woken = []
        with ScanFile(small_scan) as scan:
            options = ReconstructionOptions(method="cg-sense", wake_ms=wake_ms)
            session = Session(scan.header, options, live=True)
            for line in scan.acquisitions():
                time.sleep(0.002)
                before = [t for t in spins.times if t > begun[-1]] if begun else spins.times
                if session.feed(line, time.monotonic()):
                    woken.append(bool(before))
                    begun.append(time.monotonic())
        return woken

    # of the first slice nobody knows when it will end
    assert beside(work) == [False, expected]
