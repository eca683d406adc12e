"""Sessions whose lines come as they are measured: a thread of their own for the slices."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from chpnet_stream import deadline as deadlines
from chpnet_stream import session as sessions
from chpnet_stream.busy import anybody_works, working
from chpnet_stream.deadline import DeadlineRunner, GivenUpError, TooLateError
from chpnet_stream.engines.engine import Engine
from chpnet_stream.errors import MissingCalibrationError
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.session import Session, SessionImage
from tests.helpers import torch_threads, wait_for
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


@pytest.fixture
def two_threads() -> Iterator[None]:
    """PyTorch was told to use two threads: a thread that works alone shows."""
    with torch_threads(2):
        yield


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("wanted", [{}, {"deadline_ms": 50_000.0}, {"send_baseline": True}])
def test_the_images_are_the_same_and_made_on_one_thread(
    engine: Engine, small_scan: Path, wanted: dict[str, Any]
) -> None:
    where: set[tuple[str, int]] = set()

    def fault(problem: Any) -> Any:
        where.add((threading.current_thread().name, torch.get_num_threads()))
        return engine.run(problem)

    images = live(small_scan, FaultyEngine(engine, fault), **wanted)
    assert where == {("network", 2)}  # the dry run, too
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
    """Notes when cores are kept busy."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times: list[float] = []
        self.failure: Exception | None = None
        monkeypatch.setattr(deadlines, "keep_cores_busy", self)

    def __call__(self) -> None:
        self.times.append(time.monotonic())
        if self.failure is not None:
            raise self.failure
        time.sleep(0.001)


@pytest.fixture
def spins(monkeypatch: pytest.MonkeyPatch) -> Spins:
    return Spins(monkeypatch)


FOREVER = 1e6


def test_cores_are_not_kept_busy_before_begin_or_behind_end(spins: Spins) -> None:
    runner = DeadlineRunner()
    now = time.monotonic()
    runner.wake(now + FOREVER, now + 2 * FOREVER)
    runner.wake(now - 2.0, now - 1.0)
    assert runner.run(lambda stop: len(spins.times)) == 0
    begin = time.monotonic() + 0.05
    runner.wake(begin, begin + FOREVER)
    assert wait_for(lambda: bool(spins.times))
    assert spins.times[0] >= begin
    runner.close()


def test_an_end_that_comes_ends_it(spins: Spins) -> None:
    runner = DeadlineRunner()
    begin = time.monotonic()
    runner.wake(begin, begin + 0.3)
    assert wait_for(lambda: time.monotonic() > begin + 0.4)
    seen = len(spins.times)
    runner.wake(time.monotonic() + FOREVER, time.monotonic() + 2 * FOREVER)
    assert runner.run(lambda stop: len(spins.times)) == seen
    runner.close()


def test_work_ends_it_at_once_and_so_does_the_end(spins: Spins) -> None:
    runner = DeadlineRunner()
    runner.wake(0.0, time.monotonic() + FOREVER)
    assert wait_for(lambda: bool(spins.times))
    assert runner.run(lambda stop: len(spins.times)) == runner.run(lambda stop: len(spins.times))
    runner.wake(0.0, time.monotonic() + FOREVER)
    seen = len(spins.times)
    assert wait_for(lambda: len(spins.times) > seen)
    (thread,) = networks()
    runner.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_nobody_keeps_cores_from_another_who_works(spins: Spins) -> None:
    runner = DeadlineRunner()
    with working():
        runner.wake(0.0, time.monotonic() + FOREVER)
        assert runner.run(lambda stop: len(spins.times)) == 0
        runner.wake(0.0, time.monotonic() + FOREVER)
        time.sleep(0.02)  # were it not so, it would spin now
        assert not spins.times
    assert wait_for(lambda: bool(spins.times))
    runner.close()


def test_work_that_is_given_up_keeps_no_cores(spins: Spins) -> None:
    late, other = DeadlineRunner(), DeadlineRunner()
    free = threading.Event()
    with pytest.raises(TooLateError):
        late.run(lambda stop: free.wait(PATIENCE), time.monotonic() + 0.01)
    assert not anybody_works()
    other.wake(0.0, time.monotonic() + FOREVER)
    assert wait_for(lambda: bool(spins.times))
    free.set()
    other.close()
    late.close()


def test_cores_that_can_not_be_kept_awake_cost_no_slice(
    spins: Spins, caplog: pytest.LogCaptureFixture
) -> None:
    runner = DeadlineRunner()
    spins.failure = MemoryError("none left")
    runner.wake(0.0, time.monotonic() + FOREVER)
    assert wait_for(lambda: "cores are not kept awake: MemoryError: none left" in caplog.text)
    assert runner.run(lambda stop: 7) == 7
    assert len(spins.times) == 1
    runner.close()


def test_without_threads_slices_are_made_where_they_come(
    small_scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    _, plain = run(small_scan)
    with ScanFile(small_scan) as scan:
        lines = list(scan.acquisitions())

        def work() -> list[SessionImage]:
            session = Session(scan.header, ReconstructionOptions(method="cg-sense"), live=True)
            return list(session.images(lines))

        with ThreadPoolExecutor(1, "scan") as pool:
            future = pool.submit(time.sleep, 0)
            future.result(PATIENCE)
            monkeypatch.setattr(threading.Thread, "start", none)
            images = pool.submit(work).result(PATIENCE)
    for image, same in zip(images, plain, strict=True):
        np.testing.assert_array_equal(image.result.image, same.result.image)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_who_waits_for_a_thread_that_has_ended_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> int:
        raise MemoryError

    monkeypatch.setattr(deadlines, "take_over_threads", broken)
    monkeypatch.setattr(deadlines, "LOOK_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match="the thread that reconstructs has ended"):
        DeadlineRunner().run(lambda stop: 7)


def test_nothing_of_late_work_is_kept() -> None:
    class Big:
        pass

    runner, free = DeadlineRunner(), threading.Event()
    big = Big()
    gone = weakref.ref(big)

    def late(stop: threading.Event, big: Big = big) -> None:
        free.wait(PATIENCE)
        raise GivenUpError

    gc.disable()
    try:
        with pytest.raises(TooLateError):
            runner.run(late, time.monotonic() + 0.01)
        del late, big
        free.set()
        assert runner.run(lambda stop: 1) == 1
        assert gone() is None
    finally:
        gc.enable()
    runner.close()


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


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU that does not hang")
def test_a_gpu_that_hangs_in_the_dry_run_costs_no_image(
    engine: Engine,
    small_scan: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    free = threading.Event()
    monkeypatch.setattr(sessions, "WARM_SECONDS", 0.2)
    monkeypatch.setattr(sessions, "warm_up", lambda *_: free.wait(PATIENCE))
    gone = FaultyEngine(engine, lambda problem: problem.start)
    gone.device = torch.device("cuda")
    try:
        images = live(small_scan, gone)
    finally:
        free.set()
    assert "dry run gave no answer within 0.2 s" in caplog.text
    _, plain = run(small_scan)
    for image, same in zip(images, plain, strict=True):
        assert image.result.method == "cg-sense"
        np.testing.assert_array_equal(image.result.image, same.result.image)
