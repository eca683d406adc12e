import time

import pytest
import torch

from chpnet_stream.metrics import StageClock

CPU = torch.device("cpu")


def test_steps_add_up_to_the_whole() -> None:
    begin = time.perf_counter()
    clock = StageClock(CPU)
    time.sleep(0.02)
    clock.lap("network")
    clock.lap("checks")
    time.sleep(0.02)
    clock.lap("network")
    whole = 1e3 * (time.perf_counter() - begin)
    found = clock.milliseconds
    assert list(found) == ["network", "checks"]
    assert found["network"] >= 40
    assert found["checks"] < found["network"]
    assert sum(found.values()) <= whole


class Event:
    """Stands for an event of a GPU, whose time is told by `Event.now`."""

    now = 0.0
    waited = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, stream: str) -> None:
        assert stream == "current"
        self.at = Event.now

    def elapsed_time(self, later: "Event") -> float:
        return later.at - self.at

    def synchronize(self) -> None:
        Event.waited += 1


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """What the clock sees of a GPU; waiting for all of it is an error."""
    monkeypatch.setattr(Event, "now", 0.0)
    monkeypatch.setattr(Event, "waited", 0)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "current")

    def wait(device: object = None) -> None:
        raise AssertionError("waited for the GPU")

    monkeypatch.setattr(torch.cuda, "synchronize", wait)
    return torch.device("cuda")


def test_a_gpu_is_not_waited_for_between_steps(gpu: torch.device) -> None:
    clock = StageClock(gpu)
    for name, at in (("start", 2.0), ("network", 5.0), ("checks", 5.5), ("network", 6.5)):
        Event.now = at
        clock.lap(name)
    assert Event.waited == 0
    assert clock.milliseconds == {"start": 2.0, "network": 4.0, "checks": 0.5}
    assert Event.waited == 1


def test_a_gpu_that_was_given_up_is_not_asked(gpu: torch.device) -> None:
    clock = StageClock(gpu)
    clock.lap("start")
    clock.device = CPU
    clock.lap("rss")
    assert list(clock.milliseconds) == ["start", "rss"]
    assert Event.waited == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU that does not fail")
def test_a_gpu_that_is_gone_is_timed_by_the_clock() -> None:
    clock = StageClock(torch.device("cuda"))  # whatever is asked of it raises
    clock.lap("start")
    assert clock.milliseconds["start"] >= 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_steps_on_a_real_gpu() -> None:  # pragma: no cover
    clock = StageClock(torch.device("cuda"))
    torch.ones(4000, 4000, device="cuda").square().sum()
    clock.lap("network")
    clock.lap("checks")
    found = clock.milliseconds
    assert found["network"] > found["checks"] >= 0
