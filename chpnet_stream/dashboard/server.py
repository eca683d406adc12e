"""The live view as a server of its own thread, beside the scans."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from chpnet_stream.dashboard.app import make_app
from chpnet_stream.dashboard.guard import Guard, token_for
from chpnet_stream.errors import ConfigurationError

if TYPE_CHECKING:
    from chpnet_stream.dashboard.prometheus import ScanMetrics
    from chpnet_stream.dashboard.store import ScanStore

GRACE_SECONDS = 2
MOST_CONNECTIONS = 64

logger = logging.getLogger(__name__)


class DashboardServer:
    """Serves the live view and the metrics.

    Attributes:
        address: Host and port.
        token: What a visitor must know; None where nothing is asked.
        token_made: The token was made here and must be told to somebody.

    Args:
        store: Scans and pictures.
        metrics: For Prometheus.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        token: What the environment says.
        names: Further host names that it goes by.
        facts: What is told of the server.

    Raises:
        ConfigurationError: The address can't be listened on, the token is too short, or packages
            are missing.
    """

    def __init__(
        self,
        store: ScanStore,
        metrics: ScanMetrics,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        token: str | None = None,
        names: Iterable[str] = (),
        facts: dict[str, Any] | None = None,
    ) -> None:
        import uvicorn

        from chpnet_stream.dashboard.patience import PatientProtocol

        self.token, self.token_made = token_for(host, token)
        app = make_app(store, metrics, lambda: self._server.should_exit, facts)
        config = uvicorn.Config(
            Guard(app, host, self.token, names),
            loop="asyncio",
            http=PatientProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._server = uvicorn.Server(config)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server((host, port), family=family)
        except OSError as error:
            raise ConfigurationError(
                f"the live view can't listen on {host} port {port}: {error.strerror}; choose "
                "another --dashboard port, or stop what listens there"
            ) from error
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._thread = threading.Thread(target=self._run, name="dashboard", daemon=True)

    @property
    def url(self) -> str:
        """Where it is; without the token."""
        host, port = self.address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    def start(self) -> None:
        """Begin to serve, on a thread."""
        self._thread.start()

    def close(self) -> None:
        """Send everybody away, and end."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(GRACE_SECONDS + 5)
        self._listener.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[self._listener]))
        except Exception:
            logger.exception("the live view ended with an error; scans go on")
