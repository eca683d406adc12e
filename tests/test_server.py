"""A warm server: scans one after another and at once, failures, a clean stop."""

import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.mrd.wire.messages import Close
from chpnet_stream.mrd_server import MrdServer
from chpnet_stream.server import GadgetServer
from chpnet_stream.streaming.engine_pool import EnginePool
from chpnet_stream.streaming.observer import Observers
from tests.gadgets.peers import Answer, configuration, conversation, exchange, greeting, raw
from tests.helpers import running, wait_for
from tests.hostile.servers import ServerProcess
from tests.network.models import tiny_config, untrained, write_model
from tests.scan.building import header_xml

CG = configuration(method="cg-sense")


def connect(server: GadgetServer | tuple[str, int]) -> socket.socket:
    address = server.address if isinstance(server, GadgetServer) else server
    sock = socket.create_connection(address)
    sock.settimeout(120)
    return sock


def send(server: GadgetServer | tuple[str, int], data: bytes) -> Answer:
    with connect(server) as sock:
        return exchange(sock, data)


def suppressed(work: Callable[[bytes], None], data: bytes) -> None:
    with contextlib.suppress(OSError):
        work(data)


@pytest.fixture
def server() -> Iterator[GadgetServer]:
    made = GadgetServer("acquisitions", port=0, workers=2, connections=2)
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made
    made.stop()
    thread.join()


def test_it_listens_on_the_loopback(server: GadgetServer) -> None:
    assert server.address[0] == "127.0.0.1"
    with pytest.raises(ConfigurationError, match=r"can't listen on 127\.0\.0\.1 port"):
        GadgetServer("acquisitions", port=server.address[1])


def test_no_address_is_not_every_address() -> None:
    """A variable of a script that is not set would open the server to the network."""
    with pytest.raises(ConfigurationError, match="found no address to listen on"):
        GadgetServer("acquisitions", host="", port=0)


@pytest.mark.parametrize("host", ["::1", "::"])
def test_it_listens_on_addresses_of_ipv6(small_scan: Path, host: str) -> None:
    try:
        socket.create_server((host, 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with running(GadgetServer("acquisitions", host=host, port=0)) as server:
        port = server.address[1]
        for address in ("::1", *(["127.0.0.1"] if host == "::" else [])):
            assert len(send((address, port), conversation(small_scan, CG)).images) == 2


def test_scans_one_after_another(server: GadgetServer, small_scan: Path) -> None:
    data = conversation(small_scan, CG)
    for _ in range(3):
        answer = send(server, data)
        assert len(answer.images) == 2
        assert isinstance(answer.messages[-1], Close)
    assert server.scans == 3
    assert server.failed == 0


def test_several_scans_at_once_and_one_that_waits(server: GadgetServer, small_scan: Path) -> None:
    data = conversation(small_scan, CG)
    half = len(data) // 2
    first, second = connect(server), connect(server)
    with first, second:
        first.sendall(data[:half])
        second.sendall(data[:half])
        waiting: list[Answer] = []
        third = threading.Thread(target=lambda: waiting.append(send(server, data)))
        third.start()
        third.join(0.5)
        assert not waiting  # there is no place for a third
        assert wait_for(lambda: sum(s.begun for s in list(server._open.values())) == 2)
        assert len(exchange(second, data[half:]).images) == 2
        third.join()
        assert len(waiting[0].images) == 2
        assert len(exchange(first, data[half:]).images) == 2


def test_failing_scans_leave_the_server_alone(
    server: GadgetServer, small_scan: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = conversation(small_scan, CG)
    spiral = greeting(header_xml(trajectory="spiral").encode()) + raw(Close())
    with caplog.at_level("INFO", logger="chpnet_stream"):
        assert "spiral" in send(server, spiral).errors[0]
        assert "message id" in send(server, b"GET / HTTP/1.1\r\n\r\n").errors[0]
        with connect(server) as sock:
            sock.sendall(good[: len(good) // 3])
        with connect(server):
            pass  # a port scan
        assert len(send(server, good).images) == 2
        server.stop()
        for thread in list(server._threads):
            thread.join()
    lines = [r.getMessage() for r in caplog.records if r.name == "chpnet_stream.streaming.scan"]
    assert len(lines) >= 4
    assert sum("failed after" in line for line in lines) >= 3
    assert sum("done, 2 images in" in line for line in lines) == 1


def test_who_is_refused_at_the_header_may_send_on(server: GadgetServer) -> None:
    """To close a connection that has unread data takes back what was said last."""
    large = ismrmrd.Acquisition.from_array(np.zeros((64, 4096), np.complex64))
    spiral = greeting(header_xml(trajectory="spiral").encode())
    with connect(server) as sock:
        sock.sendall(spiral + raw(*[large] * 20, Close()))  # 40 MB: more than sockets hold
        answer = exchange(sock, b"")
    assert "spiral" in answer.errors[0]
    assert isinstance(answer.messages[-1], Close)


def test_a_peer_is_told_also_where_its_scan_can_not() -> None:
    class Broken(GadgetServer):
        def scan_of(self, connection: Any, name: str) -> Any:
            raise ZeroDivisionError("a bug")

    with running(Broken("acquisitions", port=0)) as server, connect(server) as sock:
        answer = exchange(sock, b"")
    assert answer.errors == ["chpnet-stream: unexpected ZeroDivisionError: a bug"]
    assert isinstance(answer.messages[-1], Close)
    assert server.failed == 1


def test_peers_that_say_nothing_are_sent_away(small_scan: Path) -> None:
    server = GadgetServer("acquisitions", port=0, connections=1, patience=0.2)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        with connect(server) as silent:
            answer = send(server, conversation(small_scan, CG))  # waits for the only place
            assert len(answer.images) == 2
            assert silent.recv(1) in (b"", b"\x08")
    finally:
        server.stop()
        thread.join()
    assert server.failed == 1


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("door", ["gadget", "serve"])
def test_who_only_looks_whether_somebody_listens_is_no_scan(
    caplog: pytest.LogCaptureFixture, door: str, reset: bool
) -> None:
    """Monitors of a site do it all day: they pushed the scans out of the live view."""
    seen: list[Any] = []
    observers = Observers([SimpleNamespace(observe=seen.append)])
    settings: dict[str, Any] = {"port": 0, "observers": observers}
    made = GadgetServer("images", **settings) if door == "gadget" else MrdServer(**settings)
    with caplog.at_level("INFO", logger="chpnet_stream"), running(made):
        for _ in range(3):
            sock = socket.create_connection(made.address)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        assert wait_for(lambda: made.scans == 3)
    observers.close()
    assert made.failed == 0
    assert seen == []
    assert caplog.messages == []


def test_two_scans_on_one_connection_give_the_images_of_the_first(
    server: GadgetServer, small_scan: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They were taken back, as far as they were still on their way."""
    data = conversation(small_scan, CG)
    with socket.socket() as sock, caplog.at_level("WARNING", logger="chpnet_stream"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
        sock.settimeout(60)
        sock.connect(server.address)
        sender = threading.Thread(target=suppressed, args=(sock.sendall, 2 * data))
        sender.start()
        wait_for(lambda: server.scans and not server._threads, 3)
        answer = exchange(sock, b"")
        sender.join(60)
    assert len(answer.images) == 2
    assert isinstance(answer.messages[-1], Close)
    assert "another scan needs another connection" in caplog.text


def test_running_scans_finish_when_it_stops(small_scan: Path) -> None:
    server = GadgetServer("acquisitions", port=0)
    thread = threading.Thread(target=server.serve)
    thread.start()
    data = conversation(small_scan, CG)
    with connect(server) as sock:
        sock.sendall(data[:5000])
        while not server.scans:
            thread.join(0.01)
        server.stop()
        assert len(exchange(sock, data[5000:]).images) == 2
    thread.join()
    with pytest.raises(OSError, match="refused"):
        connect(server)


def test_peers_that_came_before_the_stop_are_served(small_scan: Path) -> None:
    """Also where their connections have not been accepted yet."""
    server = GadgetServer("acquisitions", port=0, connections=1)
    data = conversation(small_scan, CG)
    answers: list[Answer] = []
    early = [connect(server) for _ in range(3)]
    server.stop()
    thread = threading.Thread(target=server.serve)
    thread.start()
    for sock in early:
        with sock:
            answers.append(exchange(sock, data))
    thread.join(60)
    assert not thread.is_alive()
    assert [len(a.images) for a in answers] == [2, 2, 2]


def test_models_are_loaded_once(tmp_path: Path) -> None:
    pool = EnginePool(most=1)
    card = str(write_model(tmp_path, untrained(tiny_config())))
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(pool.get(card, "pytorch"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    other = tmp_path / "other"
    other.mkdir()
    pool.get(str(write_model(other, untrained(tiny_config()))), "pytorch")
    assert pool.get(card, "pytorch") is not found[0]  # only one is kept


def test_defaults_hold_where_a_chain_says_nothing(small_scan: Path) -> None:
    server = GadgetServer("acquisitions", port=0, defaults={"method": "rss", "series": "7"})
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        images = send(server, conversation(small_scan, configuration(series=9))).images
    finally:
        server.stop()
        thread.join()
    assert [i.meta["ChpnetMethod"] for i in images] == ["rss", "rss"]
    assert [i.image_series_index for i in images] == [9, 9]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("door", ["serve", "gadget"])
def test_it_stops_whichever_thread_gets_the_signal(door: str) -> None:
    """The system may give it to any of them, and the main thread waits for peers."""
    with ServerProcess(door) as server:
        pid = server.process.pid
        others: list[int] = []
        with server.connect():  # one thread at least is its scan's
            while not others:
                others = [int(t.name) for t in Path(f"/proc/{pid}/task").iterdir()]
                others.remove(pid)
            assert ctypes.CDLL(None).tgkill(pid, others[0], int(signal.SIGTERM)) == 0
        assert server.process.wait(60) == 0


def test_peers_without_a_scan_do_not_hold_up_the_stop(
    small_scan: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("chpnet_stream.server.LAST_CALL_SECONDS", 0.3)
    monkeypatch.setattr("chpnet_stream.server.WAITING_SECONDS", 0.3)
    server = GadgetServer("acquisitions", port=0, connections=2)
    thread = threading.Thread(target=server.serve)
    thread.start()
    data = conversation(small_scan, CG)
    with (
        caplog.at_level("INFO", logger="chpnet_stream"),
        connect(server) as silent,
        connect(server) as running,
    ):
        running.sendall(data[:5000])
        late = connect(server)  # there is no place for it yet
        while len(server._open) < 2 or not any(scan.begun for scan in server._open.values()):
            thread.join(0.01)
        server.stop()
        answer = exchange(silent, b"")
        assert "is being stopped" in answer.errors[0]
        with late:
            assert len(exchange(late, data).images) == 2
        while "stopping: waiting for the end of scan" not in caplog.text:
            thread.join(0.01)
        assert thread.is_alive()
        assert len(exchange(running, data[5000:]).images) == 2
        thread.join(60)
    assert not thread.is_alive()
    assert server.failed == 1


def test_a_peer_that_was_accepted_late_has_its_time(
    small_scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chpnet_stream.server.LAST_CALL_SECONDS", 1.0)
    server = GadgetServer("acquisitions", port=0, connections=1)
    thread = threading.Thread(target=server.serve)
    thread.start()
    data = conversation(small_scan, CG)
    with connect(server) as running:
        running.sendall(data[:5000])
        while not any(scan.begun for scan in list(server._open.values())):
            thread.join(0.01)
        with connect(server) as second, connect(server) as third:  # there is no place for them
            server.stop()
            thread.join(1.5)
            assert len(exchange(running, data[5000:]).images) == 2
            while server.scans < 2:
                thread.join(0.01)
            thread.join(0.5)  # the header takes its time; the third waits for the place
            assert len(exchange(second, data).images) == 2
            assert len(exchange(third, data).images) == 2
    thread.join(60)
    assert not thread.is_alive()
    assert server.failed == 0


def test_a_peer_without_a_thread_is_told(
    server: GadgetServer, small_scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = conversation(small_scan, CG)
    assert len(send(server, data).images) == 2
    start = threading.Thread.start

    def full(thread: threading.Thread) -> None:
        if thread.name.startswith("scan 2"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", full)
    with connect(server) as sock:
        assert "no thread left" in exchange(sock, b"").errors[0]
    assert len(send(server, data).images) == 2
    assert server.failed == 1


def test_the_command_serves_and_stops_on_sigterm(small_scan: Path) -> None:
    words = [sys.executable, "-m", "chpnet_stream", "gadget", "--port", "0", "--threads", "1"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert "listening on 127.0.0.1 port" in line
        address = ("127.0.0.1", int(line.split("port ")[1].split()[0]))
        data = conversation(small_scan)
        assert [i.meta["ChpnetMethod"] for i in send(address, data).images] == ["chpnet"] * 2
        with connect(address) as sock:
            sock.sendall(data[:5000])
            assert "done, 2 images" in process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            assert len(exchange(sock, data[5000:]).images) == 2
        rest = process.stderr.read()
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.stderr.close()
        process.wait()
    assert "stopped after 2 scans, 0 of them failed" in rest
