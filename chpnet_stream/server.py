"""A warm server for `<connect>`: scans one after another, and several at once."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
from collections.abc import Mapping

from chpnet_stream.errors import ChpnetError, ConfigurationError, PeerGoneError
from chpnet_stream.mrd.wire.byte_stream import SocketStream
from chpnet_stream.mrd.wire.connection import Connection
from chpnet_stream.mrd.wire.limits import WireLimits
from chpnet_stream.streaming.engine_pool import EnginePool
from chpnet_stream.streaming.observer import Observers
from chpnet_stream.streaming.scan import Kind, Scan

PATIENCE_SECONDS = 60.0
"""A peer that connects must have sent the scan's header by then."""

BACKLOG = 16

logger = logging.getLogger(__name__)


class GadgetServer:
    """Serves scans to Gadgetron's `<connect port="..."/>`.

    Args:
        kind: What comes in.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        workers: Scans at once; further ones wait until one is done.
        defaults: Properties that hold where a chain's configuration doesn't say otherwise.
        engines: Networks that are loaded.
        limits: Largest sizes that are read.
        observers: Who is told of what happens to the scans.

    Raises:
        ConfigurationError: The address can't be listened on.
    """

    def __init__(
        self,
        kind: Kind,
        host: str = "127.0.0.1",
        port: int = 18000,
        *,
        workers: int = 2,
        defaults: Mapping[str, str] | None = None,
        engines: EnginePool | None = None,
        limits: WireLimits | None = None,
        observers: Observers | None = None,
    ) -> None:
        self.kind = kind
        self.defaults = dict(defaults or {})
        self.engines = engines or EnginePool()
        self.limits = limits
        self.observers = observers
        self.scans = 0
        self.failed = 0
        self._free = threading.Semaphore(workers)
        self._stopping = threading.Event()
        self._threads: set[threading.Thread] = set()
        self._wake, self._waker = socket.socketpair()
        try:
            self._listener = socket.create_server((host, port), backlog=BACKLOG)
        except OSError as error:
            self._wake.close()
            self._waker.close()
            raise ConfigurationError(
                f"can't listen on {host} port {port}: {error.strerror}; choose another port, or "
                "stop what listens there"
            ) from error
        self.address: tuple[str, int] = self._listener.getsockname()[:2]

    def serve(self) -> None:
        """Accept scans until `stop`, and return when the running ones are done."""
        try:
            while self._wait_for_a_worker() and self._wait_for_a_peer():
                self._begin()
        finally:
            self._listener.close()
            for thread in list(self._threads):
                thread.join()
            self._wake.close()
            self._waker.close()

    def stop(self) -> None:
        """Accept no more scans; may be called from a signal handler."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._waker.send(b"x")

    def _wait_for_a_worker(self) -> bool:
        while not self._stopping.is_set():
            if self._free.acquire(timeout=0.2):
                return True
        return False

    def _wait_for_a_peer(self) -> bool:
        select.select([self._listener, self._wake], [], [])
        return not self._stopping.is_set()

    def _begin(self) -> None:
        try:
            sock, address = self._listener.accept()
        except OSError as error:  # the peer is gone already, or there are too many open files
            logger.warning("a peer could not be accepted: %s", error)
            self._stopping.wait(0.1)
            self._free.release()
            return
        self.scans += 1
        name = f"scan {self.scans} from {address[0]}"
        thread = threading.Thread(target=self._scan, args=(sock, name), name=name)
        self._threads.add(thread)
        thread.start()

    def _scan(self, sock: socket.socket, name: str) -> None:
        """One scan; whatever happens, the server goes on."""
        connection = Connection(SocketStream(sock), "gadgetron", self.limits)
        scan = Scan(
            connection,
            self.kind,
            self.engines,
            self.defaults,
            name,
            patience=PATIENCE_SECONDS,
            observers=self.observers,
        )
        try:
            scan.run()
        except PeerGoneError:
            self.failed += 1  # told in the log by the scan; there is no fault of ours to trace
        except ChpnetError:
            self.failed += 1
            logger.debug("%s: traceback", name, exc_info=True)
        except Exception:
            self.failed += 1
            logger.exception("%s: unexpected error", name)
        finally:
            connection.hang_up()
            self._threads.discard(threading.current_thread())
            self._free.release()
