"""Warm servers: scans one after another, and several at once."""

from __future__ import annotations

import contextlib
import logging
import math
import select
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from chpnet_stream.errors import ChpnetError, ConfigurationError, PeerGoneError
from chpnet_stream.memory import give_memory_back
from chpnet_stream.mrd.wire.byte_stream import SocketStream
from chpnet_stream.mrd.wire.connection import Connection, Peer
from chpnet_stream.mrd.wire.limits import WireLimits
from chpnet_stream.size_limits import size_limit
from chpnet_stream.streaming.engine_pool import EnginePool
from chpnet_stream.streaming.inbox import INBOX_BYTES
from chpnet_stream.streaming.observer import Observers
from chpnet_stream.streaming.pump import abandoned_work, tell
from chpnet_stream.streaming.scan import Kind, Scan
from chpnet_stream.streaming.turns import Turns

PATIENCE_SECONDS = 60.0
"""A peer that connects must have sent the scan's header by then."""

IDLE_SECONDS = 900.0
"""A scan may pause for so long."""

CONNECTIONS = 32
WAITING_BYTES = 4 * 2**30
"""Bound of what may wait to be worked on, in all connections together."""

BACKLOG = 64

SPARE = 8
"""So many peers beyond `connections` may ask for the version, as health checks do, or wait."""

LAST_CALL_SECONDS = 5.0
"""So long a server that was stopped waits for peers that have not begun their scan."""

WAITING_SECONDS = 10.0
"""How often a server that was stopped says whom it waits for."""

TICK_SECONDS = 0.2

LOOK_SECONDS = 1.0
"""Who goes within this time and has said nothing only looked whether somebody listens."""

logger = logging.getLogger(__name__)


class ScanServer(ABC):
    """Accepts connections, each with one scan on a thread of its own.

    Any number of scans up to `connections` may be open; `workers` of them are worked on at a time,
    slice by slice in turns. A peer that stalls keeps its connection and nothing else.

    Attributes:
        scans: Connections that were accepted.
        failed: Of these, scans that ended with an error.
        questions: Of these, peers that had no scan: they asked for the version, or only looked.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        workers: Slices that are worked on at a time.
        connections: Scans that may be open; further peers wait until one is done.
        defaults: Properties that hold where a peer doesn't say otherwise.
        engines: Networks that are loaded.
        limits: Largest sizes that are read.
        patience: Seconds within which a peer must have sent the header; 0 for any time.
        idle: Seconds that a peer may pause in a scan, or take no images; 0 for any time.
        observers: Who is told of what happens to the scans.

    Raises:
        ConfigurationError: The address can't be listened on.
    """

    peer: Peer

    def __init__(
        self,
        host: str,
        port: int,
        *,
        workers: int = 2,
        connections: int = CONNECTIONS,
        defaults: Mapping[str, str] | None = None,
        engines: EnginePool | None = None,
        limits: WireLimits | None = None,
        patience: float = PATIENCE_SECONDS,
        idle: float = IDLE_SECONDS,
        observers: Observers | None = None,
    ) -> None:
        if not host:  # for sockets that is every address
            raise ConfigurationError(
                "found no address to listen on, expected one: 127.0.0.1 is for this machine only, "
                "0.0.0.0 for all that reach it"
            )
        self.defaults = dict(defaults or {})
        self.engines = engines or EnginePool()
        self.limits = limits or WireLimits.configured()
        self.patience = patience
        self.idle = idle
        self.observers = observers
        self.turns = Turns(workers)
        self.scans = 0
        self.failed = 0
        self.questions = 0
        self._inbox_bytes = size_limit(
            "waiting_bytes", min(INBOX_BYTES, WAITING_BYTES // connections)
        )
        self._free = threading.Semaphore(connections + SPARE)
        self._places = Turns(connections)
        self._stopping = False  # no Event: its lock can't be taken in a signal handler
        self._threads: set[threading.Thread] = set()
        self._open: dict[str, Scan] = {}
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        self._waker.setblocking(False)
        try:
            self._listener = _listener(host, port)
        except OSError as error:
            self._wake.close()
            self._waker.close()
            raise ConfigurationError(
                f"can't listen on {host} port {port}: {error.strerror or error}; choose another "
                "address or port, or stop what listens there"
            ) from error
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]

    @abstractmethod
    def scan_of(self, connection: Connection, name: str) -> Scan:
        """The scan of a new connection."""

    def serve(self) -> None:
        """Accept scans until `stop`, and return when the running ones are done.

        Peers that had connected before the stop are served as well. Those that have not begun a
        scan, by its header, are sent away some seconds after the stop.
        """
        ending = _Ending(self._open)
        try:
            while self._wait_for_a_place():
                if not self._wait_for_a_peer():
                    self._free.release()
                    break
                self._begin()
            for _ in range(BACKLOG):
                if not select.select([self._listener], [], [], 0)[0]:
                    break
                while not self._free.acquire(timeout=TICK_SECONDS):
                    ending.tick()
                self._begin()
        finally:
            self._listener.close()
            for thread in [*self._threads, *abandoned_work()]:
                while thread.is_alive():
                    thread.join(TICK_SECONDS)
                    ending.tick()
            self._wake.close()
            self._waker.close()

    def stop(self) -> None:
        """Accept no more scans; may be called from a signal handler."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._waker.send(b"x")

    @property
    def waker(self) -> int:
        """A file descriptor; what is written to it makes the server look whether it shall stop.

        For `signal.set_wakeup_fd`: a signal that comes just before the server begins to wait for
        peers would not be handled before the next one comes.
        """
        return self._waker.fileno()

    def _wait_for_a_place(self) -> bool:
        while not self._stopping:
            if self._free.acquire(timeout=TICK_SECONDS):
                return True
        return False

    def _wait_for_a_peer(self) -> bool:
        while not self._stopping:
            ready, _, _ = select.select([self._listener, self._wake], [], [])
            if self._wake in ready:
                with contextlib.suppress(BlockingIOError):
                    self._wake.recv(64)
            elif not self._stopping:
                return True
        return False

    def _begin(self) -> None:
        try:
            sock, address = self._listener.accept()
        except OSError as error:  # the peer is gone already, or there are too many open files
            logger.warning("a peer could not be accepted: %s", error)
            time.sleep(TICK_SECONDS / 2)
            self._free.release()
            return
        self.scans += 1
        name = f"scan {self.scans} from {address[0]}"
        thread = threading.Thread(target=self._scan, args=(sock, name), name=name)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # no more threads
            logger.error("%s: refused: %s", name, error)
            self._threads.discard(thread)
            connection = Connection(SocketStream(sock, TICK_SECONDS), self.peer)
            connection.fail("the server has no thread left for this scan; send it again later")
            connection.hang_up()
            self.failed += 1
            self._free.release()

    def _scan(self, sock: socket.socket, name: str) -> None:
        """One scan; whatever happens, the server goes on."""
        stream = SocketStream(sock, self.idle)
        connection = Connection(stream, self.peer, self.limits)
        scan: Scan | None = None
        try:
            if stream.says_something(LOOK_SECONDS) is False:
                logger.debug("%s: only looked whether somebody listens", name)
                self.questions += 1
                return
            scan = self.scan_of(connection, name)
            scan.inbox_bytes = self._inbox_bytes
            scan.place = self._place
            self._open[name] = scan
            scan.run()
            self.questions += not scan.begun
            if stream.says_something(0):
                logger.warning(
                    "%s: the peer sends on behind CLOSE, which is not looked at: another scan "
                    "needs another connection",
                    name,
                )
                connection.drain()  # to close over it would take back what was sent last
        except PeerGoneError:
            self.failed += 1  # told in the log by the scan; there is no fault of ours to trace
        except ChpnetError:
            self.failed += 1
            logger.debug("%s: traceback", name, exc_info=True)
        except Exception as error:
            self.failed += 1
            logger.exception("%s: unexpected error", name)
            connection.fail(tell(error))  # where the scan could not
        finally:
            self._open.pop(name, None)
            connection.hang_up()
            del stream, connection, scan
            give_memory_back()
            self._threads.discard(threading.current_thread())
            self._free.release()

    @contextlib.contextmanager
    def _place(self, scan: Scan) -> Iterator[None]:
        """Wait until there is room for a scan, and keep it inside of the `with` block."""
        scan.opened = math.inf  # it is not its peer that is waited for
        with self._places.turn():
            scan.opened = time.monotonic()
            yield


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens; at `::` for both kinds of addresses, where the system can do that."""
    if ":" not in host:
        return socket.create_server((host, port), backlog=BACKLOG)
    both = host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(
        (host, port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=both
    )


class _Ending:
    """Ends what has not begun, and says what a stopped server waits for.

    Time runs from the first tick.

    Args:
        scans: The open ones, by name.
    """

    def __init__(self, scans: Mapping[str, Scan]) -> None:
        self.scans = scans
        self.began: float | None = None
        self.told = 0.0

    def tick(self) -> None:
        """Call this while waiting."""
        now = time.monotonic()
        if self.began is None:
            self.began = self.told = now
        if now < self.began + LAST_CALL_SECONDS:
            return
        for scan in list(self.scans.values()):
            if now > scan.opened + LAST_CALL_SECONDS:  # not who was accepted just now
                scan.send_away("this server is being stopped")
        if now > self.told + WAITING_SECONDS and self.scans:
            self.told = now
            logger.info(
                "stopping: waiting for the end of %s; a second signal ends at once",
                ", ".join(list(self.scans)),
            )


class GadgetServer(ScanServer):
    """Serves scans to Gadgetron's `<connect port="..."/>`.

    Args:
        kind: What comes in.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        settings: As for `ScanServer`.

    Raises:
        ConfigurationError: The address can't be listened on.
    """

    peer: Peer = "gadgetron"

    def __init__(
        self, kind: Kind, host: str = "127.0.0.1", port: int = 18000, **settings: Any
    ) -> None:
        super().__init__(host, port, **settings)
        self.kind = kind

    def scan_of(self, connection: Connection, name: str) -> Scan:
        """See `ScanServer.scan_of`."""
        return Scan(
            connection,
            self.kind,
            self.engines,
            self.defaults,
            name,
            patience=self.patience,
            turn=self.turns.turn,
            observers=self.observers,
        )
