"""Peers of a gadget: what a real Gadgetron does, over real sockets and processes."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.byte_stream import BytesStream, SocketStream
from chpnet_stream.mrd.wire.messages import Close, Config, ErrorText, Header
from chpnet_stream.mrd.wire.reader import MessageReader
from chpnet_stream.mrd.wire.writer import MessageWriter, message_parts

STARTUP = Path(__file__).resolve().parents[2] / "gadgets" / "startup"
NO_CONFIG = b'<?xml version="1.0"?>\n'


def configuration(**properties: Any) -> bytes:
    """A configuration as Gadgetron writes it."""
    lines = "".join(f'\t<property name="{n}" value="{v}" />\n' for n, v in properties.items())
    return f'<?xml version="1.0"?>\n<configuration>\n{lines}</configuration>\n'.encode()


def raw(*items: Any) -> bytes:
    """The bytes of messages."""
    return b"".join(bytes(part) for item in items for part in message_parts(item))


def greeting(header: bytes, config: bytes = NO_CONFIG) -> bytes:
    """What a gadget gets first."""
    return raw(Config(config), Header(header))


def conversation(path: Path, config: bytes = NO_CONFIG) -> bytes:
    """The bytes of a whole scan in a file."""
    with ScanFile(path) as scan:
        return greeting(scan.header.xml, config) + raw(*scan.acquisitions(), Close())


def messages_in(data: bytes) -> list[Any]:
    """All messages in some bytes."""
    reader = MessageReader(BytesStream(data))
    found = []
    while (message := reader.read()) is not None:
        found.append(message)
    return found


@dataclass
class Answer:
    """What came back, and how the process ended."""

    messages: list[Any] = field(default_factory=list)
    status: int | None = None
    log: str = ""

    @property
    def images(self) -> list[Any]:
        """The images among the messages."""
        import ismrmrd

        return [m for m in self.messages if isinstance(m, ismrmrd.Image)]

    @property
    def errors(self) -> list[str]:
        """Texts of the ERROR messages."""
        return [m.text for m in self.messages if isinstance(m, ErrorText)]


class GadgetProcess:
    """Starts `python -m gadgetron PORT MODULE TARGET` as Gadgetron does, and is its peer.

    Standard input is closed, so that the socket becomes file descriptor 0, and the folder that is
    installed as `share/gadgetron/python` is appended to PYTHONPATH.
    """

    def __init__(self, kind: str, target: str = "reconstruct", **popen: Any) -> None:
        self.listener = socket.create_server(("localhost", 0), family=_family())
        port = self.listener.getsockname()[1]
        words = [sys.executable, "-m", "gadgetron", str(port), kind, target]
        self.process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" <&-', "sh", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{STARTUP}"},
            **popen,
        )
        self.listener.settimeout(60)
        self.socket, _ = self.listener.accept()
        self.socket.settimeout(120)

    def __enter__(self) -> "GadgetProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()
        self.listener.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def ends(self, timeout: float = 120) -> tuple[int, str]:
        """Exit status and log of the process."""
        _, log = self.process.communicate(timeout=timeout)
        return self.process.returncode, log.decode()

    def converse(self, data: bytes) -> Answer:
        """Send everything, gather what comes back until CLOSE, and wait for the end."""
        answer = exchange(self.socket, data)
        self.socket.close()
        answer.status, answer.log = self.ends()
        return answer


def exchange(sock: socket.socket, data: bytes | Iterable[bytes]) -> Answer:
    """Send pieces from one thread, read messages on another until CLOSE, as Gadgetron does."""
    pieces = [data] if isinstance(data, bytes) else data
    failed: list[OSError] = []

    def send() -> None:
        try:
            for piece in pieces:
                sock.sendall(piece)
        except OSError as error:
            failed.append(error)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    reader = MessageReader(SocketStream(sock))
    answer = Answer()
    while (message := reader.read()) is not None:
        answer.messages.append(message)
        if isinstance(message, Close):
            break
    sender.join(30)
    return answer


class SocketPair:
    """Runs a handler at one end of a connection over TCP, on a thread; the test is the other."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self.error: BaseException | None = None
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.socket = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()

        def run() -> None:
            try:
                serve(theirs)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.error = error
            finally:
                theirs.close()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def __enter__(self) -> "SocketPair":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()
        self.thread.join(60)

    @property
    def writer(self) -> MessageWriter:
        """To send messages one by one."""
        return MessageWriter(SocketStream(self.socket))


def _family() -> socket.AddressFamily:
    return socket.getaddrinfo("localhost", None)[0][0]
