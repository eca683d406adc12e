"""`serve` as a process: its configurations, and how it ends."""

import json
import signal
import socket
import subprocess

import pytest

from chpnet_stream.mrd.wire.messages import Query
from tests.gadgets.peers import raw
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


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--property", "metod=rss"], "did you mean 'method'"),
        (["--alias", "Brain=rsss"], "unknown configuration 'rsss'"),
        (["--alias", "Brain"], "expected NAME=VALUE"),
        (["--host", "192.0.2.1"], "can't listen on 192.0.2.1"),
    ],
)
def test_options_that_can_not_be(words: list[str], fault: str) -> None:
    done = chpnet("serve", "--port", 0, *words)
    assert done.returncode == 2
    assert fault in done.stderr
