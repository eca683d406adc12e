"""`serve` as a process: its configurations, and how it ends."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chpnet_stream.doctor.ports import what_answers
from chpnet_stream.mrd.wire.messages import Query
from tests.gadgets.peers import configuration, conversation, exchange, raw
from tests.programs import Running, chpnet


def test_the_configurations_are_listed() -> None:
    listed = json.loads(chpnet("serve", "--list", "--json", "--alias", "Brain=rss").stdout)
    found = {one["name"]: one for one in listed}
    assert found["Brain"]["properties"] == {"method": "rss"}
    assert found["chpnet_grappa_enhance"]["takes"] == "images"


def test_a_second_signal_ends_at_once() -> None:
    made = Running("serve")
    try:
        with socket.create_connection(("127.0.0.1", made.port)) as sock:
            sock.sendall(raw(Query(b"gadgetron::version", 1)))
            assert sock.recv(2) == b"\7\0"  # it has us, and this scan does not end by itself
            made.process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                made.process.wait(1)
            made.process.send_signal(signal.SIGTERM)
            assert made.process.wait(20) == -signal.SIGTERM
    finally:
        made.process.kill()
        made.process.communicate()


def test_health_checks_are_no_scans() -> None:
    """After a day there seemed to have been thousands."""
    made = Running("serve")
    try:
        assert "chpnet-stream" in what_answers(made.port, 20)
        socket.create_connection(("127.0.0.1", made.port)).close()
        time.sleep(0.5)
        made.process.send_signal(signal.SIGTERM)
        assert "stopped after 0 scans, 0 of them failed" in made.line("stopped after")
        assert made.process.wait(60) == 0
    finally:
        made.process.kill()
        made.process.communicate()


@pytest.mark.parametrize("ignored", [False, True])
def test_the_end_of_its_terminal_costs_no_scan(small_scan: Path, ignored: bool) -> None:
    """A running scan was broken off; where nohup asks for it, the server stays."""
    data = conversation(small_scan, configuration(method="cg-sense"))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        made = Running("serve")
    finally:
        signal.signal(signal.SIGHUP, before)
    try:
        with socket.create_connection(("127.0.0.1", made.port)) as sock:
            sock.settimeout(60)
            sock.sendall(data[: len(data) // 2])
            time.sleep(0.5)
            for _ in range(2):
                made.process.send_signal(signal.SIGHUP)
                time.sleep(0.2)
            assert len(exchange(sock, data[len(data) // 2 :]).images) == 2
        if ignored:
            assert made.process.poll() is None
            made.process.send_signal(signal.SIGTERM)
        assert made.process.wait(60) == 0
    finally:
        made.process.kill()
        made.process.communicate()


@pytest.mark.parametrize(("pid", "status"), [(1, 143), (7, -signal.SIGTERM)])
def test_a_second_signal_ends_the_first_process_of_a_container_too(pid: int, status: int) -> None:
    code = (
        "import os, signal\n"
        f"me, os.getpid = os.getpid(), lambda: {pid}\n"
        "from chpnet_stream.cli.serving import _second_signal\n"
        "signal.signal(signal.SIGTERM, _second_signal())\n"
        "os.kill(me, signal.SIGTERM)\n"
        "signal.pause()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == status


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--property", "metod=rss"], "did you mean 'method'"),
        (["--alias", "Brain=rsss"], "unknown configuration 'rsss'"),
        (["--alias", "Brain"], "expected NAME=VALUE"),
        (["--host", "192.0.2.1"], "can't listen on 192.0.2.1"),
        (["--host", ""], "found no address to listen on"),
    ],
)
def test_options_that_can_not_be(words: list[str], fault: str) -> None:
    done = chpnet("serve", "--port", 0, *words)
    assert done.returncode == 2
    assert fault in done.stderr
