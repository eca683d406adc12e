"""How a server loads its model: what can't be loaded, and what is left of it."""

import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chpnet_stream.cli.serving import WARM_MATRIX, Serving, run_server
from chpnet_stream.engines.engine import Engine
from chpnet_stream.enhancement import Enhancer
from chpnet_stream.errors import ModelError
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.messages import Close, Header
from chpnet_stream.mrd_server import MrdServer
from chpnet_stream.server import GadgetServer
from chpnet_stream.streaming.engine_pool import EnginePool
from tests.gadgets.peers import exchange, raw
from tests.network.models import tiny_config, untrained, write_model
from tests.programs import chpnet, running
from tests.sessions import FaultyEngine, quiet_engine


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """The card of a model whose weights are not whole."""
    card = write_model(tmp_path, untrained(tiny_config()))
    weights = card.with_suffix(".safetensors")
    weights.write_bytes(weights.read_bytes()[:-8])
    return card


def test_a_model_that_can_not_be_loaded_costs_no_images(damaged: Path, small_scan: Path) -> None:
    with ScanFile(small_scan) as scan:
        data = raw(Header(scan.header.xml), *scan.acquisitions(), Close())
    with running("serve", "--model", str(damaged)) as server:
        told = [line for line in server.log if "could not be loaded" in line]
        assert len(told) == 1
        assert "WARNING" in told[0]
        assert "until a scan can load it" in told[0]
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.settimeout(60)
            images = exchange(sock, data).images
    assert [image.meta["ChpnetMethod"] for image in images] == ["cg-sense"] * 2
    assert all("engine not loaded" in image.meta["ChpnetFallback"] for image in images)


def test_unless_errors_shall_be_errors(damaged: Path) -> None:
    words = ("serve", "--port", 0, "--model", damaged, "--property", "on_error=error")
    done = chpnet(*words)
    assert done.returncode == 2
    assert damaged.with_suffix(".safetensors").name in done.stderr
    missing = chpnet("serve", "--port", 0, "--model", "chpnet-rtt")
    assert missing.returncode == 2
    assert "did you mean 'chpnet-rt'" in missing.stderr


class Pool(EnginePool):
    """Has one engine, and may be loading another one."""

    loads = False

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def get(self, model: str, engine: str, precision: str = "auto") -> Engine:
        return self.engine

    def is_loading(self) -> bool:
        return self.loads


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a server does to its process is undone."""
    monkeypatch.setattr("chpnet_stream.memory.keep_memory_flat", lambda: None)
    ours = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in ours}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("loads", [False, True])
def test_the_dry_run_leaves_no_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, loads: bool
) -> None:
    """Else the team of its loops would be there for ever, and all others' would be slower."""
    quiet = quiet_engine(tmp_path)
    runs: list[tuple[threading.Thread, Any]] = []

    def run(problem: Any) -> Any:
        runs.append((threading.current_thread(), tuple(problem.start.shape)))
        return quiet.run(problem)

    server = MrdServer(port=0, engines=Pool(FaultyEngine(quiet, run)))
    server.engines.loads = loads  # type: ignore[attr-defined]
    server.stop()
    with caplog.at_level("INFO", logger="chpnet_stream"):
        run_server(server, "nobody", Serving(port=0))
    ((thread, shape),) = runs
    assert shape[2:] == (WARM_MATRIX, WARM_MATRIX)
    assert thread is not threading.main_thread()
    thread.join(60)
    assert not thread.is_alive()
    assert ("an engine that is being loaded" in caplog.text) == loads


@pytest.mark.usefixtures("handlers")
def test_a_server_for_images_has_its_model_before_they_come(tmp_path: Path) -> None:
    """The first scan waited for it, whatever the help says."""
    card = write_model(tmp_path, untrained(tiny_config(task="superres")))
    server = GadgetServer("images", port=0)
    server.stop()
    with pytest.MonkeyPatch.context() as patch:
        runs = []
        patch.setattr(Enhancer, "__call__", lambda self, image: runs.append(image.shape))
        run_server(server, "images", Serving(port=0, model=str(card)), images=True)
    assert runs == [(WARM_MATRIX // 2,) * 2]
    assert [key[0] for key in server.engines._kept] == [str(card)]


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("on_error", ["fallback", "error"])
def test_a_server_for_images_without_a_model_for_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, on_error: str
) -> None:
    card = write_model(tmp_path, untrained(tiny_config()))
    server = GadgetServer("images", port=0)
    server.stop()
    serving = Serving(port=0, model=str(card), properties=(f"on_error={on_error}",))
    if on_error == "error":
        with pytest.raises(ModelError, match="is for the task 'kspace'"):
            run_server(server, "images", serving, images=True)
        server.serve()  # lets go of its sockets
        return
    with caplog.at_level("WARNING", logger="chpnet_stream"):
        run_server(server, "images", serving, images=True)
    assert "every image will be passed on as it came: model" in caplog.text
