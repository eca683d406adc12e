"""Faults from outside of `chpnet-stream serve` and `gadget` as processes: whole scans all the same.

Nothing is replaced in the servers: files are damaged, limits of the system set, processes stopped
and killed.
"""

import hashlib
import json
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import chpnet_stream
from chpnet_stream.mrd.wire.messages import Close
from chpnet_stream.network.config import StudentConfig
from chpnet_stream.simulation.scan import simulate_scan
from tests.gadgets.peers import Answer, configuration, conversation, exchange
from tests.helpers import small_options, wait_for
from tests.hostile.servers import ServerProcess
from tests.network.models import untrained, write_model

DOORS = ("serve", "gadget")
SLICES = 4
INFINITE = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="module")
def scan(folder: Path) -> Path:
    path = folder / "scan.h5"
    simulate_scan(path, small_options(slices=SLICES, interleaved=False))
    return path


@pytest.fixture(scope="module", params=DOORS)
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[ServerProcess]:
    summaries = folder / f"summaries-{request.param}"
    words = ("--summary", str(summaries), "--workers", "1", "--property", "method=chpnet")
    with ServerProcess(request.param, *words) as running:
        yield running


def converse(server: ServerProcess, path: Path, **properties: Any) -> Answer:
    """One scan through a server."""
    with server.connect() as sock:
        return exchange(sock, conversation(path, configuration(method="chpnet", **properties)))


def check_whole(answer: Answer, method: str, reason: str = "", slices: int = SLICES) -> None:
    """Every slice once, in order, each with what its meta must say."""
    assert isinstance(answer.messages[-1], Close)
    assert answer.errors == []
    assert [image.slice for image in answer.images] == list(range(slices))
    assert [image.meta["ChpnetMethod"] for image in answer.images] == [method] * slices
    if reason:
        told = [image.meta["ChpnetFallback"] for image in answer.images]
        assert [reason for text in told if reason not in text] == []
    else:
        assert not any(image.meta.get("ChpnetFallback") for image in answer.images)


def copied(folder: Path, name: str) -> Path:
    """The shipped model in a folder of its own; its card."""
    target = folder / name
    target.mkdir()
    for path in (Path(chpnet_stream.__file__).parent / "models").glob("chpnet-rt.*"):
        shutil.copy(path, target)
    return target / "chpnet-rt.json"


def test_files_of_a_model_that_are_damaged(
    server: ServerProcess, scan: Path, tmp_path: Path
) -> None:
    for kind, engine, words in (
        ("safetensors", "pytorch", "SHA-256"),
        ("0.onnx", "onnx", "SHA-256"),
    ):
        card = copied(tmp_path, kind)
        path = card.with_suffix(f".{kind}")
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
        check_whole(converse(server, scan, model=card, engine=engine), "cg-sense", words)
    check_whole(converse(server, scan), "chpnet")  # nobody else is concerned


def test_a_plan_that_does_not_load(server: ServerProcess, scan: Path, tmp_path: Path) -> None:
    card = copied(tmp_path, "plan")
    graph = card.with_suffix(".1.onnx")
    graph.write_bytes(b"no graph at all")
    content = json.loads(card.read_text())
    content["onnx_sha256"][1] = hashlib.sha256(graph.read_bytes()).hexdigest()
    card.write_text(json.dumps(content))  # what was meant, by its checksum, and yet no graph
    check_whole(converse(server, scan, model=card, engine="onnx"), "cg-sense", "engine not loaded")


def test_a_network_that_is_too_slow(server: ServerProcess, scan: Path, tmp_path: Path) -> None:
    config = StudentConfig(architecture="chpnet-rt", task="kspace", widths=(64, 128))
    card = write_model(tmp_path, untrained(config))
    answer = converse(server, scan, model=card, engine="pytorch", deadline_ms=1)
    check_whole(answer, "cg-sense", "late")
    check_whole(converse(server, scan), "chpnet")


def test_a_server_that_is_stopped_and_goes_on(server: ServerProcess, scan: Path) -> None:
    server.process.send_signal(signal.SIGSTOP)
    waker = threading.Timer(1.0, server.process.send_signal, (signal.SIGCONT,))
    waker.start()
    check_whole(converse(server, scan), "chpnet")
    waker.join()


def test_a_disk_that_is_full(server: ServerProcess, scan: Path, folder: Path) -> None:
    door = next(word for word in server.process.args if word in DOORS)
    summaries = folder / f"summaries-{door}"
    assert wait_for(lambda: sorted(summaries.glob("*.json")))  # of the tests before
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    before = sorted(summaries.glob("*.json"))  # the last of them may only just have come
    try:
        check_whole(converse(server, scan), "chpnet")
        told = wait_for(lambda: [line for line in server.log if "summary" in line.lower()])
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, INFINITE)
    assert told
    assert sorted(summaries.iterdir()) == before  # and nothing that is half written
    check_whole(converse(server, scan), "chpnet")
    assert wait_for(lambda: len(list(summaries.glob("*.json"))) == len(before) + 1)


def test_memory_that_is_used_up(server: ServerProcess, scan: Path, folder: Path) -> None:
    path = folder / "large.h5"
    if not path.exists():
        options = small_options(matrix=(320, 320), coils=8, slices=2, interleaved=False)
        simulate_scan(path, options)
    check_whole(converse(server, scan, engine="pytorch"), "chpnet")  # all is loaded
    short = 0
    for spare in (24,):
        most = 1024 * server.status("VmSize") + spare * 2**20
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        try:
            answer = converse(server, path, engine="pytorch")
        finally:
            resource.prlimit(server.process.pid, resource.RLIMIT_AS, INFINITE)
        assert isinstance(answer.messages[-1], Close)
        sent = [image.slice for image in answer.images]
        assert sent == list(range(len(sent)))
        told = [message for message in answer.messages if hasattr(message, "text")]
        assert len(sent) == 2 or told  # never less without a word
        short += bool(told) + sum("ChpnetFallback" in image.meta for image in answer.images)
    assert short  # else nothing was tried here
    assert server.process.poll() is None
    check_whole(converse(server, path, engine="pytorch"), "chpnet", slices=2)


def test_a_server_that_is_killed(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "images.h5"
    with ServerProcess("serve") as server:
        idle = server.descriptors
        words = ["send", str(scan), "--port", str(server.port), "--out", str(out)]
        words += ["--pace", "0.2"]
        client = subprocess.Popen(
            [sys.executable, "-m", "chpnet_stream", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert wait_for(lambda: server.descriptors > idle)
        server.process.kill()
        _, told = client.communicate(timeout=110)
    assert client.returncode not in (0, None)
    assert "Traceback" not in told
    assert told.strip()
    assert not out.exists()
