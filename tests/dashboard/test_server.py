"""The live view's server: events, pictures, its end, and a port that is taken."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from chpnet_stream.dashboard import app as module
from chpnet_stream.dashboard import patience
from chpnet_stream.dashboard.prometheus import ScanMetrics
from chpnet_stream.dashboard.server import DashboardServer
from chpnet_stream.dashboard.store import ScanStore
from chpnet_stream.errors import ConfigurationError
from tests.dashboard.serving import Watched, wait_until
from tests.gadgets.peers import conversation


def test_events_begin_with_everything_and_go_on_with_what_is_new(small_scan: Path) -> None:
    with Watched(method="rss") as watched:
        data = conversation(small_scan)
        watched.send(data)
        names = [name for name, _ in watched.events(lambda found: len(found) == 4)]
        assert names == ["hello", "state", "scans", "pictures"]
        sender = threading.Timer(0.5, lambda: watched.send(data))
        sender.start()

        def enough(found: list[tuple[str, Any]]) -> bool:
            return {p["latency_ms"] is None for p in pictures_in(found[4:])} == {False}

        later = watched.events(enough)[4:]
        sender.join()
    scans = {scan["id"] for name, value in later if name == "scans" for scan in value}
    assert len(scans) == 1  # only the new one
    assert {p["scan"] for p in pictures_in(later)} == scans


def pictures_in(events: list[tuple[str, Any]]) -> list[Any]:
    return [p for name, value in events if name == "pictures" for p in value]


def test_pictures_are_the_pixels_that_were_sent(small_scan: Path) -> None:
    import numpy as np

    with Watched(method="rss") as watched:
        images = watched.send(conversation(small_scan)).images
        _, facts = watched.store.pictures(0)
        for image, told in zip(images, facts, strict=True):
            status, headers, body = watched.get(f"/api/pictures/{told['number']}")
            assert status == 200
            assert headers["content-type"] == "application/octet-stream"
            shown = np.frombuffer(body, "<u2") * told["slope"] + told["intercept"]
            np.testing.assert_allclose(shown, image.data.ravel(), atol=told["slope"])
        assert watched.get("/api/pictures/999")[0] == 404


def test_pages_beyond_a_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PAGES", 2)
    with Watched() as watched:
        open_ones = [socket.create_connection(watched.page.address) for _ in range(2)]
        for sock in open_ones:
            sock.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200 OK" in sock.recv(4096)
        wait_until(lambda: watched.get("/api/events")[0] == 503)
        for sock in open_ones:
            sock.close()

        def free_again() -> bool:
            with socket.create_connection(watched.page.address) as sock:
                sock.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                return b"200 OK" in sock.recv(4096)

        wait_until(free_again)


def test_connections_that_ask_for_nothing_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is an open file of the process that scans need as well."""
    monkeypatch.setattr(patience, "MOST_OPEN", 12)
    with Watched() as watched:
        taken = watched.page._server.server_state.connections
        idle = [socket.create_connection(watched.page.address) for _ in range(40)]
        wait_until(lambda: sum(map(ended, idle)) == 28)
        assert len(taken) == 12
        for sock in idle:
            sock.close()
        wait_until(lambda: not taken)
        assert watched.get("/healthz")[0] == 200


def test_connections_that_ask_for_nothing_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "REQUEST_SECONDS", 1.0)
    whole = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Watched() as watched:
        idle = [socket.create_connection(watched.page.address) for _ in range(3)]
        for sock, words in zip(idle, (b"", b"GET / HT", whole + b"GET / HT"), strict=True):
            sock.sendall(words)
        wait_until(lambda: all(map(ended, idle)))
        for sock in idle:
            sock.close()


def ended(sock: socket.socket) -> bool:
    """Whether the other side has let go of a connection; what came before that is forgotten."""
    sock.settimeout(0.001)
    try:
        while sock.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_pages_outlast_the_patience_for_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.3)
    with Watched() as watched, socket.create_connection(watched.page.address) as sock:
        sock.settimeout(20)
        sock.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        heard = b""
        while heard.count(b"event: state") < 6:
            more = sock.recv(4096)
            assert more, heard
            heard += more


def test_it_ends_while_pages_are_open() -> None:
    with Watched() as watched:
        sock = socket.create_connection(watched.page.address)
        sock.settimeout(20)
        sock.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in sock.recv(4096)
    assert not watched.page._thread.is_alive()
    rest = b""
    while more := sock.recv(4096):
        rest += more
    sock.close()
    assert b"event: bye" in rest


def test_a_port_that_is_taken_is_told() -> None:
    store = ScanStore()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"can't listen on 127.0.0.1 port {port}"):
            DashboardServer(store, ScanMetrics(store), port=port)


def test_events_have_no_line_breaks_and_no_nan() -> None:
    text = module.sse("x", {"a": float("nan"), "b": "two\nlines"})
    assert text == 'event: x\ndata: {"a":null,"b":"two\\nlines"}\n\n'
    assert json.loads(text.splitlines()[1].removeprefix("data: ")) == {"a": None, "b": "two\nlines"}
