"""Clients that vanish by the hundred, dribble, or never come to an end: the others are served."""

import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chpnet_stream.mrd import flags
from chpnet_stream.session import Session
from tests.gadgets.peers import Answer, configuration, conversation, exchange
from tests.helpers import wait_for
from tests.hostile.servers import ServerProcess
from tests.scan.building import Scan

VANISHING = int(os.environ.get("CHPNET_HOSTILE_CLIENTS", "500"))
CG = configuration(method="cg-sense")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module", params=["serve", "gadget"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with ServerProcess(request.param, "--connections", "64", "--idle", "20") as running:
        yield running


def whole(server: ServerProcess, data: bytes) -> Answer:
    with server.connect() as sock:
        return exchange(sock, data)


def test_clients_that_vanish_leave_nothing_behind(server: ServerProcess, small_scan: Path) -> None:
    """Each ends its connection somewhere else: before a word, in the header, in a line, unread."""
    data = conversation(small_scan, CG)
    assert len(whole(server, data).images) == 2
    before = (server.descriptors, server.status("Threads"), server.status("VmRSS"))
    rng = np.random.default_rng(1)
    for number in range(VANISHING):
        sock = server.connect()
        end = 0 if number % 5 == 0 else int(rng.integers(len(data)))
        sock.sendall(data[: min(end, 100_000)])
        if number % 2:  # reset, not closed
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    assert wait_for(lambda: server.descriptors <= before[0] + 2), server.descriptors
    assert wait_for(lambda: server.status("Threads") <= before[1] + 2)
    assert server.status("VmRSS") < before[2] + 200 * 1024  # kB
    answer = whole(server, data)
    assert len(answer.images) == 2
    assert answer.errors == []


def test_one_byte_at_a_time_holds_up_nobody(server: ServerProcess, small_scan: Path) -> None:
    data = conversation(small_scan, CG)
    stop = threading.Event()

    def dribble(sock: socket.socket) -> None:
        for byte in data:
            if stop.wait(0.2):
                return
            sock.sendall(bytes([byte]))

    slow = [server.connect() for _ in range(8)]
    threads = [threading.Thread(target=dribble, args=(s,), daemon=True) for s in slow]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            assert len(whole(server, data).images) == 2
        assert all(thread.is_alive() for thread in threads)
    finally:
        stop.set()
        for thread, sock in zip(threads, slow, strict=True):
            thread.join(10)
            sock.close()


def test_a_client_that_sends_too_slowly_is_sent_away_with_a_word(small_scan: Path) -> None:
    data = conversation(small_scan, CG)
    with ServerProcess("serve", "--patience", "1") as server, server.connect() as sock:
        sock.settimeout(60)
        told = b""
        try:
            for byte in data[:600]:  # a header would come in some minutes
                sock.sendall(bytes([byte]))
                time.sleep(0.05)
                sock.settimeout(0.001)
                try:
                    part = sock.recv(4096)
                except TimeoutError:
                    continue
                finally:
                    sock.settimeout(60)
                told += part
                if not part:
                    break
            else:
                pytest.fail("it was not sent away")
        except OSError:
            pass  # it closed while we wrote
    log = "".join(server.log)
    assert "header" in log
    assert "scan 1" in log


def scan_without_end(repeats: int) -> Iterator[object]:
    """Lines of one slice over and over, without any last-in flag."""
    scan = Scan.of(coils=4, nx=32, ny=32)
    lines = [scan.line(ky) for ky in range(32)]
    for number in range(repeats):
        yield lines[number % 31]  # one line is never measured: the slice is never complete


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_scan_that_never_ends_takes_no_more_memory() -> None:
    from chpnet_stream.options import ReconstructionOptions

    session = Session(Scan.of(coils=4, nx=32, ny=32).header, ReconstructionOptions(method="rss"))
    for item in scan_without_end(5_000):
        session.feed(item)
    before = resident()
    for item in scan_without_end(40_000):
        assert session.feed(item) == []
    assert resident() < before + 20 * 2**20  # 40,000 lines are 80 MiB
    images = list(session.finish())
    assert len(images) == 1
    assert not images[0].data.complete


def test_slices_that_are_never_complete_are_bounded() -> None:
    """Each line is of another slice: the oldest go out, marked, and none is kept for ever."""
    from chpnet_stream.options import ReconstructionOptions

    scan = Scan.of(coils=2, nx=16, ny=16)  # whose header promises one slice
    session = Session(scan.header, ReconstructionOptions(method="rss"))
    images = []
    for number in range(1500):
        images += session.feed(scan.line(3, slice=number))
    assert session.assembler.open_slices <= session.assembler.max_open
    images += session.finish()
    assert [i.data.counters["slice"] for i in images] == list(range(1500))
    assert not any(i.data.complete for i in images)
    assert not any(i.data.edges & flags.LAST_IN_SLICE for i in images)
