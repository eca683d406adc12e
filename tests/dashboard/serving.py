"""A server with its live view, as `chpnet-stream gadget --dashboard 0` makes them, right here."""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

from chpnet_stream.dashboard.prometheus import ScanMetrics
from chpnet_stream.dashboard.server import DashboardServer
from chpnet_stream.dashboard.store import ScanStore
from chpnet_stream.server import GadgetServer
from chpnet_stream.streaming.observer import Observers
from tests.gadgets.peers import Answer, exchange
from tests.helpers import wait_for


class Watched:
    """Serves scans, and shows them."""

    def __init__(
        self,
        kind: Any = "acquisitions",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        names: Iterable[str] = (),
        megabytes: int = 256,
        show_patient: bool = False,
        engines: Any = None,
        **properties: Any,
    ) -> None:
        self.store = ScanStore(megabytes, show_patient=show_patient)
        self.metrics = ScanMetrics(self.store)
        self.observers = Observers([self.metrics, self.store])
        self.store.observers = self.metrics.observers = self.observers
        self.page = DashboardServer(
            self.store, self.metrics, host, port, token=token, names=names, facts={"version": "0"}
        )
        defaults = {name: str(value) for name, value in properties.items()}
        self.server = GadgetServer(
            kind, port=0, defaults=defaults, observers=self.observers, engines=engines
        )
        self.thread = threading.Thread(target=self.server.serve)

    def __enter__(self) -> "Watched":
        self.page.start()
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self.thread.join()
        self.observers.close()
        self.page.close()

    def connect(self) -> socket.socket:
        """A peer's connection."""
        sock = socket.create_connection(self.server.address)
        sock.settimeout(60)
        return sock

    def send(self, data: bytes | Iterable[bytes]) -> Answer:
        """Send a whole scan; returns when it was told of, too."""
        with self.connect() as sock:
            answer = exchange(sock, data)
        self.settled()
        return answer

    def settled(self) -> None:
        """Wait until no scan runs and everything was told."""
        wait_until(lambda: self.observers.flush(5) and self.store.state()["running"] == 0)

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Any, bytes]:
        """Status, headers and body of what the page answers; `host` and others by name."""
        connection = http.client.HTTPConnection(*self.page.address, timeout=30)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=given)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def told(self) -> dict[str, Any]:
        """What the page knows of all scans, the newest first."""
        status, _, body = self.get("/api/scans")
        assert status == 200
        found: dict[str, Any] = json.loads(body)
        return found

    def events(
        self, enough: Callable[[list[tuple[str, Any]]], bool], seconds: float = 30
    ) -> list[tuple[str, Any]]:
        """The server-sent events, until there are enough of them."""
        connection = http.client.HTTPConnection(*self.page.address, timeout=seconds)
        connection.request("GET", "/api/events")
        answer = connection.getresponse()
        assert answer.headers["content-type"].startswith("text/event-stream")
        found: list[tuple[str, Any]] = []
        while not enough(found):
            name = answer.readline().decode().removeprefix("event: ").strip()
            found.append((name, json.loads(answer.readline().decode().removeprefix("data: "))))
            answer.readline()
        connection.close()
        return found


def wait_until(true: Callable[[], object], seconds: float = 30) -> None:
    """Wait for something to become true."""
    assert wait_for(true, seconds), "it did not become true in time"
