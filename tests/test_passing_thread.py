import threading
from concurrent.futures import Future

import pytest

from chpnet_stream.busy import anybody_works
from chpnet_stream.passing_thread import PassingThread


def named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_work_is_done_in_order_on_one_thread_that_ends_with_it() -> None:
    beside, begin = PassingThread("beside"), threading.Event()
    seen: list[tuple[int, str]] = []

    def work(number: int) -> int:
        begin.wait(60)
        seen.append((number, threading.current_thread().name))
        return number

    futures: list[Future[int]] = []
    for i in range(5):
        futures.append(beside.submit(lambda i=i: work(i)))  # type: ignore[misc]
    (thread,) = named("beside")
    begin.set()
    assert [future.result(60) for future in futures] == list(range(5))
    thread.join(60)
    assert not thread.is_alive()
    assert seen == [(i, "beside") for i in range(5)]
    assert beside.submit(lambda: 7).result(60) == 7  # and another one comes


def test_what_goes_wrong_is_told_and_the_next_goes_on() -> None:
    beside, begin = PassingThread("beside"), threading.Event()
    waiting = beside.submit(lambda: begin.wait(60))
    broken, cancelled = beside.submit(lambda: 1 // 0), beside.submit(lambda: 1)
    last = beside.submit(lambda: 2)
    assert cancelled.cancel()
    begin.set()
    assert waiting.result(60)
    with pytest.raises(ZeroDivisionError):
        broken.result(60)
    assert last.result(60) == 2


def test_without_a_thread_the_next_work_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    beside = PassingThread("beside")
    with monkeypatch.context() as context:
        context.setattr(threading.Thread, "start", none)
        with pytest.raises(RuntimeError, match="can't start"):
            beside.submit(lambda: 1)
    assert beside.submit(lambda: 2).result(60) == 2


def test_who_works_beside_is_at_work() -> None:
    assert PassingThread("beside").submit(anybody_works).result(60)
    assert not anybody_works()
