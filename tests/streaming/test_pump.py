"""Reading on one thread, working on another, over real sockets; peers that die."""

import socket
import threading
import time
from collections.abc import Iterable
from typing import Any

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.errors import ChpnetError, PeerGoneError, ProtocolError
from chpnet_stream.mrd.wire.byte_stream import SocketStream
from chpnet_stream.mrd.wire.connection import Connection
from chpnet_stream.mrd.wire.messages import Close, ErrorText, Header
from chpnet_stream.streaming.pump import run_scan, tell
from tests.gadgets.peers import SocketPair, exchange, raw
from tests.scan.building import header_xml

HEADER = Header(header_xml().encode())


def acquisition(number: int = 0) -> Any:
    made = ismrmrd.Acquisition.from_array(np.zeros((2, 8), np.complex64))
    made.scan_counter = number
    return made


class Echo:
    """Sends back what it gets."""

    def __init__(self, first: threading.Event | None = None) -> None:
        self.first = first
        self.taken: list[int] = []
        self.closed = threading.Event()

    def take(self, item: Any, received_at: float) -> Iterable[Any]:
        if self.first is not None:
            self.first.wait()
        self.taken.append(item.scan_counter)
        return [item]

    def finish(self) -> Iterable[Any]:
        return []

    def close(self) -> None:
        self.closed.set()


def served(handler: Any, peer: Any = "gadgetron") -> SocketPair:
    def serve(sock: socket.socket) -> None:
        connection = Connection(SocketStream(sock), peer)
        try:
            connection.greet()
            run_scan(connection, (lambda: handler) if not callable(handler) else handler)
        finally:
            connection.hang_up()

    return SocketPair(serve)


def test_everything_goes_through_in_order() -> None:
    echo = Echo()
    with served(echo) as pair:
        items = [acquisition(n) for n in range(50)]
        answer = exchange(pair.socket, raw(HEADER, *items, Close()))
        pair.thread.join()
    assert [m.scan_counter for m in answer.messages[:-1]] == list(range(50))
    assert isinstance(answer.messages[-1], Close)
    assert pair.error is None
    assert echo.closed.wait(30)


def test_items_are_read_while_the_work_is_being_prepared() -> None:
    ready = threading.Event()
    taken: list[bool] = []

    def prepare() -> Echo:
        ready.wait()  # torch is being imported, say
        return Echo()

    with served(prepare) as pair:
        # Much more than a socket's buffers hold: it fits only if somebody reads.
        big = ismrmrd.Acquisition.from_array(np.zeros((64, 4096), np.complex64))
        pair.socket.sendall(raw(HEADER, *[big] * 20))
        taken.append(True)
        ready.set()
        answer = exchange(pair.socket, raw(Close()))
    assert taken
    assert len(answer.messages) == 21


@pytest.mark.parametrize("peer", ["gadgetron", "mrd"])
def test_an_error_of_the_work_reaches_a_peer_that_goes_on_sending(peer: str) -> None:
    class Broken(Echo):
        def take(self, item: Any, received_at: float) -> Iterable[Any]:
            raise ProtocolError("can't do this")

    broken = Broken()
    with served(broken, peer) as pair:
        pieces = (raw(acquisition(n)) for n in range(200))
        answer = exchange(pair.socket, [raw(HEADER), *pieces, raw(Close())])
        pair.thread.join()
    told, close = answer.messages
    assert told.text == "chpnet-stream: can't do this"
    assert isinstance(told, ErrorText) == (peer == "gadgetron")
    assert isinstance(close, Close)
    assert isinstance(pair.error, ProtocolError)
    assert broken.closed.wait(30)


def test_an_error_while_preparing_is_told() -> None:
    def prepare() -> Echo:
        raise ChpnetError("no model")

    with served(prepare) as pair:
        answer = exchange(pair.socket, raw(HEADER, acquisition(), Close()))
        pair.thread.join()
    assert [type(m).__name__ for m in answer.messages] == ["ErrorText", "Close"]
    assert str(pair.error) == "no model"


def test_a_peer_that_dies_is_noticed_while_it_should_send() -> None:
    echo = Echo()
    with served(echo) as pair:
        pair.socket.sendall(raw(HEADER, acquisition()))
        pair.socket.close()
        pair.thread.join()
    assert isinstance(pair.error, PeerGoneError)
    assert echo.closed.wait(30)


def test_a_peer_that_dies_is_noticed_while_it_waits_for_images() -> None:
    never = threading.Event()
    handler = Echo(never)
    with served(handler) as pair:
        pair.socket.sendall(raw(HEADER, acquisition(), acquisition(), Close()))
        time.sleep(0.1)
        pair.socket.close()
        pair.thread.join()  # although the work hangs
        assert isinstance(pair.error, PeerGoneError)
        assert "before all images were sent" in str(pair.error)
        never.set()


def test_an_mrd_client_may_close_its_sending_side() -> None:
    wait = threading.Event()
    with served(Echo(wait), "mrd") as pair:
        pair.socket.sendall(raw(HEADER, acquisition(), Close()))
        pair.socket.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        wait.set()
        answer = exchange(pair.socket, b"")
        pair.thread.join()
    assert [type(m).__name__ for m in answer.messages] == ["Acquisition", "Close"]
    assert pair.error is None


def test_no_core_spins_when_the_peer_is_gone() -> None:
    before = time.process_time()
    started = time.monotonic()
    with served(Echo()) as pair:
        pair.socket.sendall(raw(HEADER)[:20])
        time.sleep(0.5)
        pair.socket.close()
        pair.thread.join()
    used, passed = time.process_time() - before, time.monotonic() - started
    assert isinstance(pair.error, PeerGoneError)
    assert used < 0.5 * passed


def test_errors_are_told_in_one_line() -> None:
    assert tell(ChpnetError("a\n b")) == "chpnet-stream: a b"
    assert tell(ValueError("a\nb")) == "chpnet-stream: unexpected ValueError: a b"
