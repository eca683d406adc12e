"""How a gadget's process ends, and what it says where it can't begin."""

import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chpnet_gadgets import target

ENDING = """
import atexit, threading, time
from chpnet_gadgets import target
atexit.register(print, "the usual way")
if {late}:
    threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
target._leave_late_work()
print("ends")
"""


@pytest.mark.parametrize("late", [False, True])
def test_a_network_that_is_still_late_at_the_end_does_not_end_python_badly(
    tmp_path: Path, late: bool
) -> None:
    """Threads in native code are no good company when the interpreter goes."""
    package = tmp_path / "gadgetron"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(ENDING.format(late=late))
    done = subprocess.run(
        [sys.executable, "-m", "gadgetron"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("" if late else "ends\nthe usual way\n")


def test_last_words_reach_a_peer_that_goes_on_sending() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()

    def end() -> None:
        with theirs:
            target._last_words(theirs, "no torch")

    thread = threading.Thread(target=end)
    thread.start()
    with ours:
        ours.settimeout(60)
        ours.sendall(bytes(40 * 2**20))  # more than sockets hold
        ours.shutdown(socket.SHUT_WR)
        with ours.makefile("rb") as back:
            assert back.read() == struct.pack("<HQ", 8, 8) + b"no torch" + struct.pack("<H", 4)
    thread.join(60)
    assert not thread.is_alive()
