"""Every failure at every stage, through every door: no slice lost, none twice, all of it told."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chpnet_stream import reconstruction
from chpnet_stream.ahead import Ahead
from chpnet_stream.calibrate import CoilCalibration
from chpnet_stream.engines.engine import Engine, Problem
from chpnet_stream.errors import EngineError, ModelError
from chpnet_stream.loading import NOT_LOADED
from chpnet_stream.methods import LATE, REASONS
from chpnet_stream.quality import CHECKS
from chpnet_stream.reconstruction import CG_ITERATIONS, SliceReconstructor
from tests.faults.doors import DOORS, Outcome
from tests.helpers import relative_error
from tests.sessions import FaultyEngine, quiet_engine, simulated

ORDER = [0, 2, 1]
"""Slices of the scan, interleaved as they are measured."""

LATE_MS = "400"


def raising(error: BaseException) -> Callable[..., Any]:
    """Something that always fails so."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


class Stage:
    """Stands for a function of a stage; fails from the second slice on.

    Args:
        function: What it stands for.
        error: What it raises.
        fails: For which calls, by their arguments; by default for all.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        error: BaseException,
        fails: Callable[..., bool] = lambda *_, **__: True,
    ) -> None:
        self.function, self.error, self.fails = function, error, fails

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return lambda *a, **k: self(instance, *a, **k)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if GOING["slice"] >= 1 and self.fails(*arguments, **named):
            raise self.error
        return self.function(*arguments, **named)


GOING = {"slice": -1}
"""How many slices the reconstructor has begun, less one."""


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    GOING["slice"] = -1
    call = SliceReconstructor.__call__

    def counting(self: Any, *arguments: Any, **named: Any) -> Any:
        GOING["slice"] += 1
        return call(self, *arguments, **named)

    monkeypatch.setattr(SliceReconstructor, "__call__", counting)


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        reason: Beginning of what the meta say.
        engine: What the engine does from the second slice on.
        stages: Where functions are replaced: owner, name, error, and for which calls.
        method: Of the images that go out instead.
        properties: Set for the scan beside on_error.
        ends: Whether on_error=error ends the scan: a late image is no error.
    """

    reason: str
    engine: Callable[[Problem], Any] | None = None
    stages: tuple[tuple[Any, ...], ...] = ()
    method: str = "cg-sense"
    properties: dict[str, str] = field(default_factory=dict)
    ends: bool = True


def slow(problem: Problem) -> torch.Tensor:
    """Asks for A* A until it is told that nobody waits any more."""
    for _ in range(2000):
        problem.normal(problem.start)
        time.sleep(0.005)
    return problem.start


HANGING = threading.Event()


def hanging(problem: Problem) -> torch.Tensor:
    """Comes back when the test is over."""
    HANGING.wait(60)
    return problem.start


def pixel(problem: Problem) -> torch.Tensor:
    image = problem.start.clone()
    image[0, 0, 3, 4] = torch.nan
    return image


def at_start(_: Any, work: Any, regularization: float, iterations: int) -> bool:
    return iterations != CG_ITERATIONS


DOWN = RuntimeError("the device is gone")
FAULTS: dict[str, Fault] = {
    "engine error": Fault("engine failed: no such kernel", raising(EngineError("no such kernel"))),
    "engine bug": Fault("unexpected error: TypeError: a bug", raising(TypeError("a bug"))),
    "engine memory": Fault("unexpected error: MemoryError", raising(MemoryError())),
    "GPU memory": Fault(
        "unexpected error: OutOfMemoryError: CUDA out of memory",
        raising(torch.OutOfMemoryError("CUDA out of memory")),
    ),
    "NaN": Fault("not finite", lambda p: torch.full_like(p.start, torch.nan)),
    "one NaN": Fault("not finite", pixel),
    "shape": Fault("engine failed: expected an image", lambda p: p.start[..., 1:]),
    "nothing": Fault("unexpected error: AttributeError", lambda p: None),
    "too bright": Fault("wrong scale", lambda p: 3 * p.start),
    "shifted": Fault("misses the data", lambda p: p.start.roll(3, -1)),
    "slow": Fault("late", slow, properties={"deadline_ms": LATE_MS}, ends=False),
    "hanging": Fault("late", hanging, properties={"deadline_ms": LATE_MS}, ends=False),
    "calibration": Fault(
        "unexpected error: RuntimeError: the device is gone",
        stages=((CoilCalibration, "sensitivities", DOWN),),
        method="rss",
    ),
    "calibration memory": Fault(
        "unexpected error: MemoryError",
        stages=((CoilCalibration, "sensitivities", MemoryError("maps")),),
        method="rss",
    ),
    "data": Fault("unexpected error: RuntimeError", stages=((Ahead, "lines", DOWN),), method="rss"),
    "start": Fault(
        "unexpected error: RuntimeError",
        stages=((SliceReconstructor, "_solve", DOWN, at_start),),
    ),
    "checks": Fault("unexpected error: RuntimeError", stages=((reconstruction, "check", DOWN),)),
    "network and conventional": Fault(
        "engine failed: no such kernel",
        raising(EngineError("no such kernel")),
        ((SliceReconstructor, "_solve", DOWN, lambda *a: not at_start(*a)),),
        "rss",
    ),
    "output": Fault(
        "unexpected error: ValueError: pixels",
        stages=(
            (
                reconstruction,
                "symmetrize",
                ValueError("pixels"),
                lambda *a, rows: not rows,
            ),
        ),
    ),
    "whitening": Fault(
        "unexpected error: LinAlgError",
        stages=((CoilCalibration, "whitening", np.linalg.LinAlgError("singular")),),
        method="rss",
    ),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return quiet_engine(tmp_path_factory.mktemp("quiet"))


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scan")
    return simulated(
        folder, matrix=(32, 32), coils=3, slices=3, calibration_lines=16, noise_scan=False
    )


@pytest.fixture(scope="module")
def conventional(scan: Path) -> dict[str, dict[int, np.ndarray]]:
    """Pixels by method and slice."""
    return {
        method: {
            i.slice: i.data
            for i in DOORS["offline"](scan, raising(AssertionError()), {"method": method}).images
        }
        for method in ("cg-sense", "rss")
    }


def run(
    door: str,
    fault: Fault,
    scan: Path,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    **properties: str,
) -> Outcome:
    for owner, name, error, *fails in fault.stages:
        monkeypatch.setattr(owner, name, Stage(getattr(owner, name), error, *fails))
    faulty: Any = engine
    if fault.engine is not None:
        faulty = FaultyEngine(engine, fault.engine, after=2)  # the dry run and the first slice
    HANGING.clear()
    try:
        return DOORS[door](scan, lambda: faulty, {**fault.properties, **properties})
    finally:
        HANGING.set()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "chpnet_stream.reconstruction"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", FAULTS)
def test_the_conventional_image_goes_out_in_its_place(
    name: str,
    door: str,
    scan: Path,
    engine: Engine,
    conventional: dict[str, dict[int, np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fault = FAULTS[name]
    found = run(door, fault, scan, engine, monkeypatch)
    assert found.told == []
    assert found.closed
    assert [i.slice for i in found.images] == ORDER
    assert [i.image_index for i in found.images] == [1, 2, 3]
    first, *others = found.images
    assert [i.meta["ChpnetMethod"] for i in others] == 2 * [fault.method]
    if fault.ends or "ChpnetFallback" not in first.meta:  # on a busy machine the first is late too
        assert first.meta["ChpnetMethod"] == "chpnet"
        assert "ChpnetFallback" not in first.meta
    for image in others:
        assert image.meta["ChpnetFallback"].startswith(fault.reason)
        comment = image.meta["ImageComments"][1]
        assert comment.startswith(f"{fault.method} instead of chpnet: {fault.reason}")
        assert "ChpnetModel" not in image.meta
        if name != "whitening":  # then in units of its own
            wanted = conventional[fault.method][image.slice]
            assert relative_error(image.data, wanted) <= (1e-4 if door == "buffers" else 0)
        assert np.isfinite(image.data).all()
        assert image.data.max() > 0
    logged = warnings(caplog)
    assert logged
    assert len(set(logged)) == len(logged)
    assert sum("no image by chpnet" in line for line in logged) == 1


def test_every_reason_is_one_of_those_that_are_counted_from_the_start() -> None:
    kinds = {fault.reason.partition(":")[0] for fault in FAULTS.values()}
    assert kinds <= set(REASONS)
    assert {kind for _, kind, _ in CHECKS} | {LATE, NOT_LOADED} <= set(REASONS)


ENDING = ("engine error", "GPU memory", "one NaN", "calibration", "checks", "slow")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", ENDING)
def test_the_scan_ends_and_says_why_where_that_is_asked_for(
    name: str, door: str, scan: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = FAULTS[name]
    found = run(door, fault, scan, engine, monkeypatch, on_error="error")
    assert found.closed
    if not fault.ends:
        assert [i.slice for i in found.images] == ORDER
        assert found.told == []
        return
    assert [i.meta["ChpnetMethod"] for i in found.images] == ["chpnet"]
    (told,) = found.told
    assert fault.reason in told
    assert "on_error=error asks for an end" in told


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", ENDING)
def test_the_network_is_not_asked_again_where_that_is_asked_for(
    name: str, door: str, scan: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = FAULTS[name]
    found = run(door, fault, scan, engine, monkeypatch, on_error="baseline-only")
    assert found.told == []
    assert found.closed
    assert [i.slice for i in found.images] == ORDER
    assert [i.meta["ChpnetMethod"] for i in found.images[1:]] == 2 * [fault.method]
    assert found.images[0].meta["ChpnetMethod"] == "chpnet" or not fault.ends
    second, third = (i.meta["ChpnetFallback"] for i in found.images[1:])
    assert second.startswith(fault.reason)
    again = fault.reason if not fault.ends else f"network not asked any more: {fault.reason}"
    assert third.startswith(again)


@pytest.mark.parametrize("door", DOORS)
def test_without_conventional_method_there_is_one_more(
    door: str, scan: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conventional scan whose method fails: the root sum of squares, by the CPU."""
    fault = Fault("", stages=((SliceReconstructor, "_solve", DOWN),))
    found = run(door, fault, scan, engine, monkeypatch, method="cg-sense")
    assert [i.slice for i in found.images] == ORDER
    assert [i.meta["ChpnetMethod"] for i in found.images] == ["cg-sense", "rss", "rss"]
    assert all("the device is gone" in i.meta["ChpnetFallback"] for i in found.images[1:])


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "error", [EngineError("the plan is of another GPU"), ModelError("checksum"), OSError("disk")]
)
@pytest.mark.parametrize("on_error", ["fallback", "error", "baseline-only"])
def test_a_network_that_does_not_load(
    error: Exception,
    on_error: str,
    door: str,
    scan: Path,
    conventional: dict[str, dict[int, np.ndarray]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = DOORS[door](scan, raising(error), {"on_error": on_error})
    assert found.closed
    if on_error == "error":
        assert found.images == []
        assert str(error) in found.told[0]
        return
    assert found.told == []
    assert [i.slice for i in found.images] == ORDER
    for image in found.images:
        assert image.meta["ChpnetFallback"] == f"engine not loaded: {error}"
        assert image.meta["ChpnetMethod"] == "cg-sense"
        tolerance = 1e-4 if door == "buffers" else 0
        wanted = conventional["cg-sense"][image.slice]
        assert relative_error(image.data, wanted) <= tolerance
    told = [r for r in caplog.records if "could not be loaded" in r.getMessage()]
    assert len(told) == 1


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("error", [TypeError("a bug"), torch.OutOfMemoryError("CUDA"), DOWN])
def test_a_network_that_fails_from_its_dry_run_on(
    error: Exception, door: str, scan: Path, engine: Engine
) -> None:
    faulty = FaultyEngine(engine, raising(error))
    found = DOORS[door](scan, lambda: faulty, {})
    assert found.told == []
    assert [i.slice for i in found.images] == ORDER
    assert all(str(error) in i.meta["ChpnetFallback"] for i in found.images)


@pytest.mark.parametrize("door", DOORS)
def test_an_image_that_cannot_be_sent_ends_the_scan_in_words(
    door: str, scan: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to send instead: a header half made could show it at a wrong place."""
    from chpnet_stream import session

    fault = Fault("", stages=((session, "image_from_slice", ZeroDivisionError("a bug")),))
    found = run(door, fault, scan, engine, monkeypatch)
    assert [i.slice for i in found.images] == ORDER[:1]
    assert found.closed
    (told,) = found.told
    assert "ZeroDivisionError" in told
    assert "a bug" in told


def test_slices_do_not_pile_up_behind_a_network_that_hangs(scan: Path, engine: Engine) -> None:
    from chpnet_stream.deadline import DeadlineRunner, TooLateError

    runner = DeadlineRunner()
    go = threading.Event()
    held = [np.zeros(8) for _ in range(5)]
    import weakref

    alive = [weakref.ref(array) for array in held]

    def work(array: np.ndarray) -> Callable[[threading.Event], int]:
        return lambda stop: go.wait(60) and array.size

    for _ in range(len(held)):
        with pytest.raises(TooLateError):
            runner.run(work(held.pop(0)), time.monotonic() + 0.05)
    import gc

    gc.collect()
    assert [a() is not None for a in alive] == [True, False, False, False, False]
    go.set()
    runner.close()
