"""From the gadgetron package's connection to ours: what all gadgets share.

Imports nothing heavy: between the start of the process and its first byte there is only the
gadgetron package itself, and torch is loaded while acquisitions are read.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import sys
import threading
import time
from typing import Any

DRAIN_SECONDS = 5.0
"""How long a peer that was told of a broken installation may go on sending."""

LATE_SECONDS = 0.5
"""How long work that nobody waits for any more may take to end behind a scan."""

logger = logging.getLogger("chpnet_gadgets")


def serve(connection: Any, kind: str) -> None:
    """Serve one scan over the connection of the gadgetron package, and leave as it went.

    On failure the peer gets ERROR and CLOSE, the traceback goes to the log (stderr), and the
    process ends with status 1.

    Args:
        connection: The `gadgetron.external.Connection`; its socket is taken over.
        kind: acquisitions, buffers or images.

    Raises:
        Exception: What went wrong.
    """
    sock = connection.socket.socket
    try:
        from chpnet_gadgets.watch import Watch
        from chpnet_stream.idle_threads import let_idle_threads_sleep
        from chpnet_stream.mrd.wire.connection import Connection
        from chpnet_stream.streaming.scan import Scan

        let_idle_threads_sleep()
        ours = Connection.taken_over(connection)
        watch = Watch(sock.fileno())
    except Exception as error:
        _last_words(sock, f"chpnet-stream can't start: {type(error).__name__}: {error}")
        raise
    try:
        with watch:
            Scan(ours, kind, ready=watch.stop).run()  # type: ignore[arg-type]
    except Exception:
        logger.exception("%s: the scan failed", kind)
        ours.hang_up()
        _leave_at_once()
        raise
    ours.hang_up()
    _leave_late_work()


def _last_words(sock: Any, text: str) -> None:
    """ERROR and CLOSE without any help, for an installation that is broken.

    What the peer still sends is taken for a while: to leave it unread would take back the words.
    """
    raw = text.encode("utf-8", "replace")
    try:
        sock.sendall(struct.pack("<HQ", 8, len(raw)) + raw + struct.pack("<H", 4))
    except OSError as error:
        logger.error("the peer can't be told (%s): %s", error, text)
        return
    end = time.monotonic() + DRAIN_SECONDS
    with contextlib.suppress(OSError):
        sock.settimeout(DRAIN_SECONDS)
        while time.monotonic() < end and sock.recv(2**16):
            pass


def _leave_at_once() -> None:
    """End a gadget's process now, where work goes on on another thread.

    It may be in the middle of an import or a network, and Python would wait, or crash, on the
    way out. Only in a process that Gadgetron has started for this scan.
    """
    if _was_started_for_the_scan() and len(threading.enumerate()) > 1:
        _exit(1)


def _leave_late_work() -> None:
    """The same at the end of a scan that went well, where a network was late for the last slice.

    It is given a moment to notice that nobody waits for it.
    """
    if not _was_started_for_the_scan():
        return
    late = [thread for thread in threading.enumerate() if thread.daemon]
    for thread in late:
        thread.join(LATE_SECONDS)
    if any(thread.is_alive() for thread in late):
        _exit(0)


def _was_started_for_the_scan() -> bool:
    started = getattr(sys.modules["__main__"], "__spec__", None)
    return started is not None and started.name == "gadgetron.__main__"


def _exit(status: int) -> None:
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)
