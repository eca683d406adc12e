"""Ports that servers take: free, or who has them, and what they speak."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from chpnet_stream.doctor.finding import Finding
from chpnet_stream.errors import ProtocolError

PORTS = {18000: "chpnet-stream gadget", 9002: "chpnet-stream serve, and Gadgetron itself"}
PATIENCE_SECONDS = 2.0
HEALTH_SECONDS = 10.0
LISTENING = "0A"


def port_findings(ports: Sequence[int] = tuple(PORTS)) -> Iterator[Finding]:
    """Each port: whether it can be listened on; if not, who does, and what it answers."""
    for port in ports:
        yield _port(port)


def _port(port: int) -> Finding:
    use = PORTS.get(port, "a server")
    name = f"port {port}"
    try:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            sock.listen(1)
    except PermissionError:
        advice = "take a port above 1023 (--port)"
        return Finding("ports", name, "warn", f"may not be listened on ({use})", advice)
    except OSError:
        owner = listener(port)
        speaks = "" if _is_gadget(owner) else what_answers(port)
        found = f"in use{f' by {owner}' if owner else ''}{f': {speaks}' if speaks else ''}"
        ours = "chpnet" in found
        return Finding(
            "ports",
            name,
            "ok" if ours else "warn",
            found,
            "" if ours else f"take another one for {use} (--port), or stop what listens there",
            {"port": port, "free": False, "owner": owner, "answer": speaks},
        )
    return Finding("ports", name, "ok", f"free ({use})", values={"port": port, "free": True})


def serving_finding(port: int, seconds: float = HEALTH_SECONDS) -> Finding:
    """Whether a server of ours takes scans at a port of this machine: a failure where not.

    Args:
        port: Its port.
        seconds: A server that is busy may take so long to answer.
    """
    owner = listener(port)
    if _is_gadget(owner):  # it speaks with Gadgetron only, which begins with the header
        return Finding("ports", f"port {port}", "ok", f"a gadget listens there: {owner}")
    speaks = what_answers(port, seconds)
    if "chpnet-stream" in speaks:
        return Finding("ports", f"port {port}", "ok", speaks)
    advice = "look at the log of the server that should be there, or start one: chpnet-stream serve"
    other = speaks if speaks.startswith("an MRD server") else f"one that {speaks}"
    found = f"expected a server of ours, found {other}"
    return Finding("ports", f"port {port}", "fail", found, advice)


def what_answers(port: int, seconds: float = PATIENCE_SECONDS) -> str:
    """What a server on this machine says to the version query of MRD clients.

    Args:
        port: Its port.
        seconds: It is given up after so long.
    """
    from chpnet_stream.mrd.wire.byte_stream import SocketStream
    from chpnet_stream.mrd.wire.messages import Close, Query, Response, Text
    from chpnet_stream.mrd.wire.reader import MessageReader
    from chpnet_stream.mrd.wire.writer import MessageWriter

    try:
        sock = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    except OSError as error:
        return f"takes no connection ({error})"
    stream = SocketStream(sock, seconds)
    try:
        writer = MessageWriter(stream)
        writer.write(Query(b"gadgetron::version", correlation=1))
        message = MessageReader(stream).read()
        with contextlib.suppress(ProtocolError):
            writer.write(Close())
        if isinstance(message, Response | Text):
            text = message.raw.decode("utf-8", "replace").strip("\0 \n")
            return f"an MRD server, which says '{text[:80]}'"
        return "does not answer as an MRD server does"
    except (ProtocolError, OSError, struct.error):
        return "does not answer as an MRD server does"
    finally:
        stream.close()


def listener(port: int, proc: Path = Path("/proc")) -> str:
    """The process that listens on a port: number and command, as far as may be seen.

    Args:
        port: The port.
        proc: Where Linux tells of its processes.
    """
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text(encoding="utf-8").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if words[3] == LISTENING and int(words[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{words[9]}]")
    if not inodes:
        return ""
    for process in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for handle in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(handle.readlink()) in inodes:
                        return f"process {process.name} ({_command(process)})"
    return "a process of somebody else's"


def _is_gadget(owner: str) -> bool:
    """Whether what listens is `chpnet-stream gadget`, with or without options behind."""
    return "gadget" in owner.rstrip(")").split()


def _command(process: Path) -> str:
    words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    shown = [Path(word).name if word.startswith("/") else word for word in words if word]
    text = " ".join(shown[:5])
    return "".join(c if c.isprintable() else "?" for c in text)[:60]
