"""A bounded queue between the thread that reads and the one that works."""

import threading
from pathlib import Path

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.mrd.wire.byte_stream import BytesStream
from chpnet_stream.mrd.wire.messages import Text
from chpnet_stream.mrd.wire.reader import MessageReader
from chpnet_stream.streaming.inbox import OBJECT_BYTES, Inbox, size_of
from tests.gadgets.peers import raw


def item(megabytes: float = 0.0) -> ismrmrd.Acquisition:
    samples = int(megabytes * 2**20 / 8 / 64) or 1
    return ismrmrd.Acquisition.from_array(np.zeros((64, samples), np.complex64))


def test_items_come_in_order_with_their_times() -> None:
    inbox = Inbox()
    items = [item() for _ in range(5)]
    for number, one in enumerate(items):
        assert inbox.put(one, float(number))
    inbox.end()
    assert [(a is items[int(t)], t) for a, t in inbox] == [(True, float(n)) for n in range(5)]


def test_the_reader_waits_at_the_bound_and_no_earlier() -> None:
    inbox = Inbox(most_bytes=4 * 2**20)
    done = []

    def read() -> None:
        for number in range(8):
            inbox.put(item(1), 0.0)
            done.append(number)
        inbox.end()

    reader = threading.Thread(target=read)
    reader.start()
    while len(done) < 3:
        reader.join(0.01)
    reader.join(0.2)
    assert done == [0, 1, 2]  # a fourth would be over it, with what objects cost
    assert sum(1 for _ in inbox) == 8
    reader.join()
    assert inbox.most_seen <= 4 * 2**20


def test_an_item_larger_than_the_bound_goes_through_alone() -> None:
    inbox = Inbox(most_bytes=1000)
    assert inbox.put(item(1), 0.0)
    inbox.end()
    assert len(list(inbox)) == 1


def test_an_error_comes_behind_the_last_item() -> None:
    inbox = Inbox()
    inbox.put(item(), 0.0)
    inbox.end(ValueError("damaged"))
    items = iter(inbox)
    next(items)
    with pytest.raises(ValueError, match="damaged"):
        next(items)


def test_both_sides_stop_waiting_when_it_is_abandoned() -> None:
    full, empty = Inbox(most_bytes=1), Inbox()
    full.put(item(), 0.0)
    answers: list[object] = []
    threads = [
        threading.Thread(target=lambda: answers.append(full.put(item(), 0.0))),
        threading.Thread(target=lambda: answers.append(list(empty))),
    ]
    for thread in threads:
        thread.start()
    full.abandon()
    empty.abandon()
    for thread in threads:
        thread.join()
    assert full.abandoned
    assert {repr(a) for a in answers} == {"False", "[]"}


@pytest.mark.parametrize("name", ["buckets", "buffers", "imagearrays", "images"])
def test_sizes_are_about_those_on_the_wire(shared_data: Path, name: str) -> None:
    data = (shared_data / "wire" / f"{name}.in.bin").read_bytes()
    reader = MessageReader(BytesStream(data))
    total = 0
    while (message := reader.read()) is not None:
        total += size_of(message)
    assert 0.3 * len(data) < total < len(data) + 600 * OBJECT_BYTES


def test_words_and_trajectories_take_memory_too() -> None:
    image = ismrmrd.Image.from_array(np.zeros((4, 4), np.float32), transpose=False)
    image.meta = ismrmrd.Meta({"ImageComments": "x" * 10**5})
    line = ismrmrd.Acquisition.from_array(
        np.zeros((1, 8), np.complex64), np.zeros((8, 10**4), np.float32)
    )
    for one in (image, line, Text(b"x" * 10**5)):
        found = MessageReader(BytesStream(raw(one))).read()
        assert size_of(found) > 10**5
