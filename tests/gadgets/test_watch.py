"""The process that ends a gadget whose peer is gone while an import holds the interpreter."""

import signal
import socket
import subprocess
import sys
import time

import pytest

HOLDING = """
import ctypes, sys
from chpnet_gadgets.watch import Watch
watch = Watch(int(sys.argv[1]))
print("holding", flush=True)
if sys.argv[2] == "stopped":
    watch.stop()
ctypes.PyDLL(None).sleep(int(sys.argv[3]))  # with the interpreter's lock, as a long import has it
print("done", flush=True)
"""


def holding(theirs: socket.socket, *words: str, as_stdin: bool = False) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING, "0" if as_stdin else str(theirs.fileno()), *words],
        stdin=theirs if as_stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=[] if as_stdin else [theirs.fileno()],
    )
    theirs.close()
    assert process.stdout.readline() == "holding\n"
    return process


@pytest.fixture
def ends():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("as_stdin", [False, True], ids=["any number", "number 0"])
def test_a_gadget_that_can_not_look_is_ended_when_its_peer_goes(ends, as_stdin: bool) -> None:
    """Gadgetron starts gadgets without standard input, whose number the socket has then."""
    ours, theirs = ends
    process = holding(theirs, "watched", "120", as_stdin=as_stdin)
    ours.sendall(b"what came before it went")  # unread data hide nothing
    died = time.monotonic()
    ours.close()
    out, log = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert out == ""
    assert "Gadgetron went away while libraries were loading" in log
    assert time.monotonic() - died < 60  # of 120


@pytest.mark.parametrize("as_stdin", [False, True], ids=["any number", "number 0"])
def test_a_peer_that_is_there_disturbs_nobody(ends, as_stdin: bool) -> None:
    ours, theirs = ends
    process = holding(theirs, "watched", "1", as_stdin=as_stdin)
    ours.sendall(b"data")
    out, log = process.communicate(timeout=60)
    assert (process.returncode, out, log) == (0, "done\n", "")


@pytest.mark.parametrize("as_stdin", [False, True], ids=["any number", "number 0"])
def test_after_the_loading_nobody_watches_any_more(ends, as_stdin: bool) -> None:
    ours, theirs = ends
    process = holding(theirs, "stopped", "2", as_stdin=as_stdin)
    ours.close()
    out, log = process.communicate(timeout=60)
    assert (process.returncode, out, log) == (0, "done\n", "")


def test_it_ends_with_the_gadget(ends) -> None:
    """Nothing is left that holds the socket: the peer sees the end of the connection."""
    ours, theirs = ends
    process = holding(theirs, "watched", "120")
    process.kill()
    process.communicate(timeout=60)
    ours.settimeout(60)
    assert ours.recv(1) == b""
