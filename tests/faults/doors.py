"""The same scan through every door, with an engine of the test's own behind it."""

import contextlib
import functools
import socket
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ismrmrd

from chpnet_stream.engines.engine import Engine
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.byte_stream import BytesStream
from chpnet_stream.mrd.wire.connection import Connection
from chpnet_stream.mrd.wire.messages import Close, Config, ErrorText, Header, Text
from chpnet_stream.mrd_server import MrdServer
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.server import GadgetServer
from chpnet_stream.session import Session
from chpnet_stream.streaming.engine_pool import EnginePool
from chpnet_stream.streaming.mrd_scan import MrdScan
from chpnet_stream.streaming.scan import Scan
from tests.gadgets.accumulate import buckets
from tests.gadgets.peers import configuration, exchange, greeting, messages_in, raw


class Pool(EnginePool):
    """Gives what `load` makes, whatever is asked for."""

    def __init__(self, load: Callable[[], Engine]) -> None:
        super().__init__()
        self.load = load

    def get(self, model: str, engine: str, precision: str = "auto") -> Engine:
        return self.load()


@dataclass
class Outcome:
    """What a peer saw.

    Attributes:
        images: In the order they came.
        told: Texts of errors that reached the peer.
        closed: Whether the last message was CLOSE (of a command: it returned or raised).
    """

    images: list[Any] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    closed: bool = False


def _outcome(messages: list[Any]) -> Outcome:
    return Outcome(
        [m for m in messages if isinstance(m, ismrmrd.Image)],
        [m.text for m in messages if isinstance(m, (ErrorText, Text))],
        isinstance(messages[-1], Close),
    )


def _items(path: Path) -> tuple[Any, list[Any]]:
    with ScanFile(path) as scan:
        return scan.header, list(scan.acquisitions())


def offline(path: Path, load: Callable[[], Engine], properties: dict[str, str]) -> Outcome:
    """Through a session, as `chpnet-stream offline` goes, but image by image."""
    header, lines = _items(path)
    found = Outcome()
    from chpnet_stream import session as module

    options = ReconstructionOptions.from_properties(properties)
    before = module.make_engine
    module.make_engine = lambda *_, **__: load()
    try:
        session = Session(header, options)
        for image in session.images(lines):
            found.images += session.messages(image)
    except Exception as error:  # noqa: BLE001 - the command line tells it in one line
        found.told.append(f"{type(error).__name__}: {error}")
    finally:
        module.make_engine = before
    found.closed = True
    return found


def gadget(
    path: Path, load: Callable[[], Engine], properties: dict[str, str], *, kind: Any
) -> Outcome:
    """A gadget on a stream of bytes."""
    header, lines = _items(path)
    items = lines if kind == "acquisitions" else list(buckets(lines))
    data = greeting(header.xml, configuration(**properties)) + raw(*items, Close())
    stream = BytesStream(data)
    with contextlib.suppress(Exception):  # the peer must have been told
        Scan(Connection(stream), kind, Pool(load)).run()
    return _outcome(messages_in(bytes(stream.written)))


@contextmanager
def _listening(server: Any) -> Any:
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        with socket.create_connection(server.address) as sock:
            sock.settimeout(60)
            yield sock
    finally:
        server.stop()
        thread.join()


def warm_gadget(path: Path, load: Callable[[], Engine], properties: dict[str, str]) -> Outcome:
    """`chpnet-stream gadget`, over a socket."""
    header, lines = _items(path)
    data = greeting(header.xml, configuration(**properties)) + raw(*lines, Close())
    with _listening(GadgetServer("acquisitions", port=0, engines=Pool(load))) as sock:
        return _outcome(exchange(sock, data).messages)


def serve(path: Path, load: Callable[[], Engine], properties: dict[str, str]) -> Outcome:
    """`chpnet-stream serve`, over a socket."""
    header, lines = _items(path)
    data = raw(Config(configuration(**properties)), Header(header.xml), *lines, Close())
    with _listening(MrdServer(port=0, engines=Pool(load))) as sock:
        return _outcome(exchange(sock, data).messages)


def pipe(path: Path, load: Callable[[], Engine], properties: dict[str, str]) -> Outcome:
    """`chpnet-stream pipe`: what would go to standard output, and the error behind its status."""
    header, lines = _items(path)
    stream = BytesStream(raw(Header(header.xml), *lines, Close()))
    connection = Connection(stream, "mrd", one_way=True)
    raised: list[str] = []
    try:
        MrdScan(connection, Pool(load), properties, in_pipe=True).run()
    except Exception as error:  # noqa: BLE001 - the command line tells it in one line
        raised.append(f"{type(error).__name__}: {error}")
    found = _outcome(messages_in(bytes(stream.written)))
    found.told = found.told or raised
    return found


DOORS: dict[str, Callable[..., Outcome]] = {
    "offline": offline,
    "acquisitions": functools.partial(gadget, kind="acquisitions"),
    "buffers": functools.partial(gadget, kind="buffers"),
    "gadget server": warm_gadget,
    "serve": serve,
    "pipe": pipe,
}
