"""Time stamps become waiting times."""

import pytest

from chpnet_stream.client.pacing import Pacer


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def test_real_time_and_faster() -> None:
    for factor in (1.0, 4.0):
        clock = Clock()
        pacer = Pacer(factor, clock=clock)
        assert pacer.wait_for(1000) == 0
        assert pacer.wait_for(1000) == 0
        assert pacer.wait_for(1400) == pytest.approx(1.0 / factor)  # 400 ticks of 2.5 ms
        clock.now += 0.2
        assert pacer.wait_for(1400) == pytest.approx(1.0 / factor - 0.2, abs=1e-9)


def test_lost_time_is_caught_up() -> None:
    clock = Clock()
    pacer = Pacer(clock=clock)
    pacer.wait_for(1)
    clock.now += 5
    assert pacer.wait_for(401) == 0
    assert pacer.wait_for(2401) == pytest.approx(1.0)


def test_another_tick() -> None:
    pacer = Pacer(tick_ms=1.0, clock=Clock())
    pacer.wait_for(1)
    assert pacer.wait_for(1001) == pytest.approx(1.0)


@pytest.mark.parametrize("jump", [-500, 13_000])
def test_jumps_begin_a_new_count(jump: int) -> None:
    """Backwards, or for more than half a minute: a noise scan with a clock of its own."""
    pacer = Pacer(clock=Clock())
    pacer.wait_for(1000)
    assert pacer.wait_for(1000 + jump) == 0
    assert pacer.wait_for(1400 + jump) == pytest.approx(1.0)
    assert pacer.gaps == 1


def test_no_stamp_no_waiting() -> None:
    pacer = Pacer(clock=Clock())
    assert [pacer.wait_for(stamp) for stamp in (0, 1000, 0)] == [0, 0, 0]
    assert pacer.wait_for(1400) == pytest.approx(1.0)
    assert pacer.gaps == 0
