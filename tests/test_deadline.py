"""Work that must be ready in time, and slices whose network is late."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chpnet_stream.deadline import (
    DeadlineRunner,
    GivenUpError,
    StoppableNormal,
    StoppableSolver,
    TooLateError,
)
from chpnet_stream.engines.engine import Engine
from chpnet_stream.network.normal import ColumnNormal, Solver
from tests.network.problems import sense_problem
from tests.sessions import FaultyEngine, quiet_engine, run

LONG = 1e4
"""Seconds that no test waits for."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return quiet_engine(tmp_path_factory.mktemp("quiet"))


def test_work_in_time_is_returned_and_its_errors_raised() -> None:
    runner = DeadlineRunner()
    deadline = time.monotonic() + LONG
    assert runner.run(lambda stop: 7, deadline) == 7

    def broken(stop: threading.Event) -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        runner.run(broken, deadline)
    assert runner.dropped == 0
    runner.close()


def test_late_work_is_given_up_and_counted() -> None:
    runner = DeadlineRunner()
    ended = threading.Event()

    def late(stop: threading.Event) -> int:
        stop.wait()
        ended.set()
        return 1

    assert runner.run(lambda stop: 1) == 1  # its thread is there
    with pytest.raises(TooLateError):
        runner.run(late, time.monotonic() + 1.0)  # time to begin in, on a busy machine too
    assert ended.wait(LONG)
    assert runner.run(lambda stop: 2, time.monotonic() + LONG) == 2  # nothing of the late one
    with pytest.raises(TooLateError):
        runner.run(lambda stop: 3, time.monotonic() - 1)
    assert runner.dropped == 2
    runner.close()


def test_a_network_stops_at_its_next_iteration() -> None:
    stop = threading.Event()
    normal = StoppableNormal(lambda x: 2 * x, stop)
    assert float(normal(torch.ones(1))) == 2
    stop.set()
    with pytest.raises(GivenUpError):
        normal(torch.ones(1))


def test_so_does_one_whose_operator_solves_by_itself() -> None:
    stop = threading.Event()
    problem, _ = sense_problem((16, 12))
    assert isinstance(problem.normal, ColumnNormal)
    normal = StoppableSolver(problem.normal, stop)
    assert isinstance(normal, Solver)
    inputs = (problem.adjoint, problem.start, torch.ones(1, 1, 16, 12, dtype=torch.float64), 2)
    assert torch.equal(normal.solve(*inputs), problem.normal.solve(*inputs))
    assert torch.equal(normal(problem.start), problem.normal(problem.start))
    stop.set()
    with pytest.raises(GivenUpError):
        normal.solve(*inputs)


def test_a_late_network_is_replaced_by_the_conventional_image(
    engine: Engine, small_scan: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given_up = threading.Event()

    def late(problem: Any) -> Any:
        for _ in range(100_000):  # a network that never ends, but asks for A* A
            time.sleep(0.001)
            try:
                problem.normal(problem.start)
            except GivenUpError:
                given_up.set()
                raise
        raise AssertionError

    slow = FaultyEngine(engine, late, after=1)  # the dry run is quick
    session, images = run(small_scan, slow, deadline_ms=2500)
    assert given_up.wait(LONG)
    assert [i.result.method for i in images] == ["cg-sense", "cg-sense"]
    assert [i.result.wanted for i in images] == ["chpnet", "chpnet"]
    assert session.metrics.fallbacks == {"late": 2}
    assert session.reconstructor.runner.dropped == 2
    _, plain = run(small_scan)
    for image, same in zip(images, plain, strict=True):
        np.testing.assert_array_equal(image.result.image, same.result.image)
    told = session.to_ismrmrd(images[0]).meta
    assert told["ChpnetFallback"] == "late: the network's image was not ready at the deadline"
    assert len([m for m in caplog.messages if "late" in m]) == 1


def test_lateness_is_no_error(engine: Engine, small_scan: Path) -> None:
    session, images = run(small_scan, engine, deadline_ms=1e-3, on_error="error")
    assert [i.result.method for i in images] == ["cg-sense", "cg-sense"]
    assert session.metrics.fallbacks == {"late": 2}


def test_a_network_in_time_is_as_without_a_deadline(engine: Engine, small_scan: Path) -> None:
    _, plain = run(small_scan, engine)
    session, images = run(small_scan, engine, deadline_ms=1e3 * LONG, send_baseline=True)
    assert session.metrics.fallbacks == {}
    _, conventional = run(small_scan)
    for image, same, beside in zip(images, plain, conventional, strict=True):
        np.testing.assert_array_equal(image.result.image, same.result.image)
        assert image.result.method == "chpnet"
        assert image.result.baseline is not None
        np.testing.assert_array_equal(image.result.baseline.image, beside.result.image)


def test_a_network_that_fails_costs_no_second_conventional_image(
    engine: Engine, small_scan: Path
) -> None:
    def broken(problem: Any) -> Any:
        return torch.full_like(problem.start, float("nan"))

    faulty = FaultyEngine(engine, broken, after=1)
    session, images = run(small_scan, faulty, deadline_ms=1e3 * LONG)
    assert session.metrics.fallbacks == {"not finite": 2}
    assert [i.result.method for i in images] == ["cg-sense", "cg-sense"]


def test_without_coil_maps_there_is_nothing_for_a_network(engine: Engine, small_scan: Path) -> None:
    session, images = run(
        small_scan,
        engine,
        keep=lambda a: not (a.isFlagSet(20) and a.idx.slice == 1),
        deadline_ms=1e3 * LONG,
        send_baseline=True,
    )
    found = {i.data.counters["slice"]: i.result for i in images}
    assert found[0].method == "chpnet"
    assert found[1].method == "rss"
    assert str(found[1].fallback).startswith("no coil maps")
    assert found[1].baseline is not None
    assert found[1].baseline.wanted == "cg-sense"
    for image in images:
        made, beside = (m.meta for m in session.messages(image))
        assert beside["ChpnetMethod"] == image.result.baseline.method
        if image.result is found[1]:  # the series beside says so too
            assert beside["ChpnetFallback"] == made["ChpnetFallback"]
            assert beside["ImageComments"][1].startswith("rss instead of cg-sense: no coil maps")
        else:
            assert "ChpnetFallback" not in beside
