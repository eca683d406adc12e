"""What Python runs first in a process that Gadgetron starts for an `<execute>` node.

Gadgetron puts `share/gadgetron/python`, where this file is installed, on the path of these
processes and of no others. There the gadgetron package reads configuration and header before it
imports any gadget, and in gadgetron 1.4 that read never ends when Gadgetron has gone: the process
spins on a whole core for ever. Here the read learns to notice. And headers for our gadgets, which
read them themselves, are not parsed by the package: where it can't, it ends without a word to
Gadgetron, or quotes the value in the log, a birth date too. How their threads wait is said before
NumPy is there (`chpnet_stream.idle_threads`). Nothing else changes, for no other gadget either, and
a `sitecustomize` of the system that this one hides is run as ever.
"""

import itertools
import runpy
import socket
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()


def read_or_notice(wrapper: Any, size: int) -> bytes:
    """Read exactly so many bytes from the package's socket.

    Args:
        wrapper: A `gadgetron.external.connection.Connection.SocketWrapper`.
        size: Number of bytes.

    Raises:
        ConnectionError: If the peer is gone before they have come.
    """
    parts = []
    missing = size
    while missing:
        part = wrapper.socket.recv(missing, socket.MSG_WAITALL)
        if not part:
            raise ConnectionError(
                f"Gadgetron went away: expected {size} bytes, found {size - missing}; "
                "it was stopped or died"
            )
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def read_header(connection: Any) -> tuple[None, bytes]:
    """Read the HEADER message, and leave it to our gadget to understand it.

    Args:
        connection: The package's `Connection`.

    Returns:
        None in place of the parsed header, and its bytes.
    """
    from gadgetron.external import connection as package

    number = connection._read_message_identifier()
    if number != package.constants.GADGET_MESSAGE_HEADER:
        raise ConnectionError(f"found message id {number}, expected the scan's header")
    return None, package.read_byte_string(connection.socket)


def is_ours(words: list[str]) -> bool:
    """Whether the process is for one of our gadgets."""
    return any(word.startswith("chpnet_gadgets.") for word in words)


def set_threads() -> None:
    """Say how threads wait, before the package imports NumPy."""
    try:
        from chpnet_stream.idle_threads import let_idle_threads_sleep
    except ImportError:
        return  # our gadget says it to Gadgetron
    let_idle_threads_sleep()


def mend() -> None:
    """Give the gadgetron package the reads above, where this process is one of its gadgets."""
    words = sys.orig_argv
    if ("-m", "gadgetron") not in itertools.pairwise(words):
        return
    if is_ours(words):
        set_threads()
    try:
        from gadgetron.external.connection import Connection
    except ImportError:
        return  # the package's own start says what is missing
    Connection.SocketWrapper.read = read_or_notice
    if is_ours(words):
        Connection._read_header = read_header


def run_hidden() -> None:
    """Run the `sitecustomize` that would have been found without this file."""
    for folder in sys.path:
        file = Path(folder, "sitecustomize.py")
        if file.is_file() and file.resolve() != HERE:
            runpy.run_path(str(file), run_name="sitecustomize")
            return


if __name__ == "sitecustomize":
    mend()
    run_hidden()
