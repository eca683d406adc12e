"""Engines of a process: loads that hold up nobody else, that fail, that are tried again."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chpnet_stream.errors import EngineError
from chpnet_stream.streaming.engine_pool import EnginePool
from tests.helpers import wait_for

PATIENCE = 60.0


class Loaded:
    """All that the pool asks of an engine."""

    def __init__(self, name: str, reason: str = "") -> None:
        self.name = name
        self.reason = reason


class Loads:
    """Takes the place of `make_engine`: what is loaded, when it may go on, what comes of it.

    Attributes:
        begun: Engines whose load has begun, in order.
        held: Engines whose load waits for its event.
        made: What a load gives or raises; by default an engine of that name.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.held: dict[str, threading.Event] = {}
        self.made: dict[str, Any] = {}

    def __call__(self, engine: str, model: Any, precision: str = "auto") -> Any:
        self.begun.append(engine)
        if engine in self.held:
            assert self.held[engine].wait(PATIENCE)
        made = self.made.get(engine, Loaded(engine))
        if isinstance(made, Exception):
            raise made
        return made

    def hold(self, engine: str) -> threading.Event:
        self.held[engine] = threading.Event()
        return self.held[engine]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loads]:
    made = Loads()
    monkeypatch.setattr("chpnet_stream.engines.choice.make_engine", made)
    monkeypatch.setattr("chpnet_stream.network.weights.find_model", lambda name: name)
    yield made
    for event in made.held.values():
        event.set()


@pytest.fixture
def scans() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def test_a_slow_load_holds_up_nobody_who_wants_another_engine(
    loads: Loads, scans: ThreadPoolExecutor
) -> None:
    pool = EnginePool()
    known = pool.get("m", "onnx")
    free = loads.hold("tensorrt")
    slow = scans.submit(pool.get, "m", "tensorrt")
    assert wait_for(lambda: "tensorrt" in loads.begun)
    assert pool.is_loading()
    assert scans.submit(pool.get, "m", "onnx").result(PATIENCE) is known
    assert scans.submit(pool.get, "m", "pytorch").result(PATIENCE).name == "pytorch"
    assert not slow.done()
    free.set()
    assert slow.result(PATIENCE).name == "tensorrt"
    assert not pool.is_loading()


def waiting(pool: EnginePool) -> int:
    """How many scans wait for a load."""
    futures: list[Any] = [kept.loaded for kept in pool._kept.values()]
    return sum(len(future._condition._waiters) for future in futures)


def test_all_who_want_the_same_wait_for_one_load(loads: Loads, scans: ThreadPoolExecutor) -> None:
    pool, free = EnginePool(), loads.hold("onnx")
    asked = [scans.submit(pool.get, "m", "onnx") for _ in range(4)]
    assert wait_for(lambda: waiting(pool) == 4)
    free.set()
    assert len({id(scan.result(PATIENCE)) for scan in asked}) == 1
    assert loads.begun == ["onnx"]


def test_a_failed_load_is_told_to_all_who_wait_and_tried_again_by_the_next(
    loads: Loads, scans: ThreadPoolExecutor
) -> None:
    pool, free = EnginePool(), loads.hold("onnx")
    loads.made["onnx"] = EngineError("no memory")
    asked = [scans.submit(pool.get, "m", "onnx") for _ in range(4)]
    assert wait_for(lambda: waiting(pool) == 4)
    free.set()
    for scan in asked:
        with pytest.raises(EngineError, match="no memory"):
            scan.result(PATIENCE)
    assert loads.begun == ["onnx"]
    del loads.made["onnx"]
    assert pool.get("m", "onnx").name == "onnx"


def test_a_load_that_fails_takes_no_place(loads: Loads) -> None:
    pool = EnginePool(most=1)
    known = pool.get("m", "onnx")
    loads.made["openvino"] = EngineError("not installed")
    with pytest.raises(EngineError):
        pool.get("m", "openvino")
    assert pool.get("m", "onnx") is known
    pool.get("m", "pytorch")
    assert pool.get("m", "onnx") is not known  # only one is kept


def stand_in(loads: Loads, pool: EnginePool) -> Any:
    """TensorRT can't be had, and another engine stands in."""
    loads.made["tensorrt"] = Loaded("onnx-cpu (instead of tensorrt)", "no GPU")
    return pool.get("m", "tensorrt")


def test_what_stands_in_serves_until_there_is_what_was_asked_for(
    loads: Loads, scans: ThreadPoolExecutor
) -> None:
    pool = EnginePool(retry_seconds=0.0)
    other = stand_in(loads, pool)
    wanted: Any = Loaded("tensorrt-fp16")
    loads.made["tensorrt"] = wanted
    free = loads.hold("tensorrt")
    for _ in range(3):  # none of them waits
        assert scans.submit(pool.get, "m", "tensorrt").result(PATIENCE) is other
    assert wait_for(lambda: len(loads.begun) == 2)
    assert pool.is_loading()
    free.set()
    assert wait_for(lambda: not pool.is_loading())
    assert pool.get("m", "tensorrt") is wanted
    assert pool.get("m", "tensorrt") is wanted
    assert loads.begun == ["tensorrt"] * 2


@pytest.mark.parametrize(
    "again", [EngineError("no memory"), Loaded("pytorch (instead of tensorrt)", "no memory")]
)
def test_what_can_not_be_had_yet_is_tried_again_later(
    loads: Loads, again: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pool = EnginePool(retry_seconds=0.0)
    other = stand_in(loads, pool)
    loads.made["tensorrt"] = again
    for tries in range(2, 4):
        assert pool.get("m", "tensorrt") is other
        assert wait_for(lambda n=tries: len(loads.begun) == n and not pool.is_loading())  # type: ignore[misc]
    assert ("no memory" in caplog.text) == isinstance(again, EngineError)


def test_it_is_not_tried_with_every_scan(loads: Loads) -> None:
    pool = EnginePool(retry_seconds=3600.0)
    other = stand_in(loads, pool)
    assert [pool.get("m", "tensorrt") for _ in range(3)] == [other] * 3
    assert not pool.is_loading()
    assert loads.begun == ["tensorrt"]


def test_an_engine_that_failed_in_a_scan_is_loaded_anew(loads: Loads) -> None:
    pool = EnginePool(retry_seconds=0.0)
    loads.made["tensorrt"] = failing = Loaded("tensorrt")
    made = pool.get("m", "tensorrt")
    assert pool.get("m", "tensorrt") is made
    failing.reason = "its plans fail"  # another one took over in a scan
    del loads.made["tensorrt"]
    pool.get("m", "tensorrt")
    assert wait_for(lambda: not pool.is_loading())
    assert pool.get("m", "tensorrt") is not made
    assert loads.begun == ["tensorrt"] * 2


def test_no_thread_for_another_try(
    loads: Loads, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pool = EnginePool(retry_seconds=0.0)
    other = stand_in(loads, pool)

    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        assert pool.get("m", "tensorrt") is other
        with pytest.raises(RuntimeError, match="can't start"):
            pool.get("m", "onnx")  # the scan says so, and does without
    assert "can't start new thread" in caplog.text
    del loads.made["tensorrt"]
    pool.get("m", "tensorrt")
    assert wait_for(lambda: not pool.is_loading())
    assert pool.get("m", "tensorrt").name == "tensorrt"
    assert pool.get("m", "onnx").name == "onnx"
