"""Scans and the engines that they run by: loads, what stands in, threads."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
import pytest
import torch

from chpnet_stream.engines.engine import Engine
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.engines.stand_in import StandIn
from chpnet_stream.errors import EngineError
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.byte_stream import BytesStream
from chpnet_stream.mrd.wire.connection import Connection
from chpnet_stream.mrd.wire.messages import Close, Config, Header, Text
from chpnet_stream.network.weights import find_model
from chpnet_stream.server import GadgetServer
from chpnet_stream.streaming.engine_pool import EnginePool
from chpnet_stream.streaming.mrd_scan import MrdScan
from tests.gadgets.peers import Answer, configuration, conversation, exchange, messages_in, raw
from tests.helpers import running, torch_threads, wait_for
from tests.network.models import tiny_config, untrained, write_model
from tests.sessions import FaultyEngine

PATIENCE = 60.0


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that proposes no change."""
    return write_model(tmp_path_factory.mktemp("quiet"), untrained(tiny_config(), strength=0.0))


@pytest.fixture(scope="module")
def finer(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The same for images."""
    folder = tmp_path_factory.mktemp("finer")
    model = find_model(write_model(folder, untrained(tiny_config(task="superres"), strength=0.0)))
    return PyTorchEngine(model, torch.device("cpu"))


@pytest.fixture(scope="module")
def engine(card: Path) -> Engine:
    return PyTorchEngine(find_model(card), torch.device("cpu"))


@pytest.fixture
def peers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as made:
        yield made


class SlowTensorRT:
    """Takes the place of `make_engine`: TensorRT makes plans until `free` is set."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.free = threading.Event()
        self.tries: list[str] = []
        self.fault: Exception | None = None

    def __call__(self, name: str, model: Any, **settings: Any) -> Engine:
        self.tries.append(name)
        if name == "tensorrt":
            assert self.free.wait(PATIENCE)
            if self.fault is not None:
                raise self.fault
        return self.engine


@pytest.fixture
def loading(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowTensorRT]:
    made = SlowTensorRT(engine)
    monkeypatch.setattr("chpnet_stream.engines.choice.make_engine", made)
    yield made
    made.free.set()


def serving(card: Path, **settings: Any) -> AbstractContextManager[GadgetServer]:
    server = GadgetServer("acquisitions", port=0, defaults={"model": str(card)}, **settings)
    return running(server, PATIENCE)


def send(server: GadgetServer, data: bytes) -> Answer:
    with socket.create_connection(server.address) as sock:
        sock.settimeout(PATIENCE)
        return exchange(sock, data)


def methods(answer: Answer) -> list[str]:
    return [image.meta["ChpnetMethod"] for image in answer.images]


def test_scans_go_on_while_another_one_loads_its_engine(
    card: Path, small_scan: Path, loading: SlowTensorRT, peers: ThreadPoolExecutor
) -> None:
    """With a single turn, which is none of the scan's that waits for its engine."""
    slow = conversation(small_scan, configuration(engine="tensorrt"))
    quick = conversation(small_scan, configuration(engine="pytorch"))
    half = len(quick) // 2
    with serving(card, workers=1) as server, socket.create_connection(server.address) as early:
        early.settimeout(PATIENCE)
        early.sendall(quick[:half])
        assert wait_for(lambda: "pytorch" in loading.tries)
        waits = peers.submit(send, server, slow)
        assert wait_for(lambda: "tensorrt" in loading.tries)
        assert methods(send(server, quick)) == ["chpnet"] * 2  # a new one
        assert methods(exchange(early, quick[half:])) == ["chpnet"] * 2  # one that was running
        assert not waits.done()
        loading.free.set()
        assert methods(waits.result(PATIENCE)) == ["chpnet"] * 2
    assert server.failed == 0


def waiting(pool: EnginePool) -> int:
    """How many scans wait for a load."""
    futures: list[Any] = [kept.loaded for kept in pool._kept.values()]
    return sum(len(future._condition._waiters) for future in futures)


def test_a_peer_that_goes_while_its_engine_is_loaded_holds_up_nobody(
    card: Path, small_scan: Path, loading: SlowTensorRT, peers: ThreadPoolExecutor
) -> None:
    data = conversation(small_scan, configuration(engine="tensorrt"))
    with serving(card, workers=1, connections=2) as server:
        with socket.create_connection(server.address) as gone:
            gone.sendall(data[: len(data) // 2])
            assert wait_for(lambda: loading.tries)
        assert wait_for(lambda: server.failed)
        others = [peers.submit(send, server, data) for _ in range(2)]  # its place is free again
        assert wait_for(lambda: waiting(server.engines) == 3)
        loading.free.set()
        for other in others:
            assert methods(other.result(PATIENCE)) == ["chpnet"] * 2
    assert loading.tries == ["tensorrt"]
    assert server.failed == 1


def test_a_load_that_fails_costs_those_who_wait_their_network(
    card: Path, small_scan: Path, loading: SlowTensorRT, peers: ThreadPoolExecutor
) -> None:
    data = conversation(small_scan, configuration(engine="tensorrt"))
    strict = conversation(small_scan, configuration(engine="tensorrt", on_error="error"))
    loading.fault = EngineError("no memory")
    with serving(card) as server:
        asked: list[Future[Answer]] = [peers.submit(send, server, data) for _ in range(2)]
        asked.append(peers.submit(send, server, strict))
        assert wait_for(lambda: waiting(server.engines) == 3)
        loading.free.set()
        answers = [one.result(PATIENCE) for one in asked]
        assert [methods(one) for one in answers] == [["cg-sense"] * 2, ["cg-sense"] * 2, []]
        assert "no memory" in answers[0].images[0].meta["ChpnetFallback"]
        assert "no memory" in answers[2].errors[0]
        assert loading.tries == ["tensorrt"]
        loading.fault = None
        assert methods(send(server, data)) == ["chpnet"] * 2


class Pool(EnginePool):
    """Has one engine for raw data, and one for images."""

    def __init__(self, raw_data: Any, images: Any = None) -> None:
        super().__init__()
        self.raw_data, self.images = raw_data, images

    def get(self, model: str, engine: str, precision: str = "auto") -> Engine:
        is_finer = find_model(model).card.student.task == "superres"
        found: Engine = self.images if is_finer else self.raw_data
        return found


def test_every_scan_tells_of_an_engine_that_stands_in(
    card: Path, engine: Engine, small_scan: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = StandIn(engine, "tensorrt", "no such package")
    with serving(card, engines=Pool(other)) as server:
        for scan in (1, 2):
            answer = send(server, conversation(small_scan))
            assert answer.images[0].meta["ChpnetEngine"] == other.name
            told = f"scan {scan} from 127.0.0.1: the network runs by {other.name}"
            (message,) = (message for message in caplog.messages if told in message)
            assert "no such package" in message
    with serving(card, engines=Pool(engine)) as server:
        caplog.clear()
        assert methods(send(server, conversation(small_scan))) == ["chpnet"] * 2
        assert "the network runs by" not in caplog.text


@pytest.mark.parametrize("on_error", ["fallback", "error"])
def test_without_an_engine_images_go_on(monkeypatch: pytest.MonkeyPatch, on_error: str) -> None:
    def full(*_: Any, **__: Any) -> Engine:
        raise EngineError("no memory")

    monkeypatch.setattr("chpnet_stream.engines.choice.make_engine", full)
    stream = BytesStream(raw(Config(configuration(on_error=on_error)), picture(), Close()))
    scan = MrdScan(Connection(stream, "mrd"), EnginePool())
    if on_error == "error":
        with pytest.raises(EngineError, match="no memory"):
            scan.run()
        return
    scan.run()
    (image,) = [m for m in messages_in(bytes(stream.written)) if isinstance(m, ismrmrd.Image)]
    assert image.meta["ChpnetMethod"] == "passed on"
    assert image.meta["ChpnetFallback"] == "engine not loaded: no memory"
    np.testing.assert_array_equal(image.data, picture().data)


Place = tuple[threading.Thread, int]


def recorded(engine: Engine) -> tuple[Engine, list[Place]]:
    """An engine, and where it ran: the thread, and how many its loops had."""
    places: list[Place] = []

    def run(problem: Any) -> Any:
        places.append((threading.current_thread(), torch.get_num_threads()))
        return engine.run(problem)

    return FaultyEngine(engine, run), places


def picture() -> Any:
    rows = np.linspace(1, 2, 16, dtype=np.float32)
    made = ismrmrd.Image.from_array(np.outer(rows, rows), transpose=False)
    made.image_type = ismrmrd.IMTYPE_MAGNITUDE
    return made


def answer(pool: EnginePool, *items: Any) -> list[Any]:
    """Images that an MRD client gets."""
    stream = BytesStream(raw(*items, Close()))
    MrdScan(Connection(stream, "mrd"), pool).run()
    return [m for m in messages_in(bytes(stream.written)) if isinstance(m, ismrmrd.Image)]


def items_of(path: Path) -> tuple[Header, list[Any]]:
    with ScanFile(path) as scan:
        return Header(scan.header.xml), list(scan.acquisitions())


def networks() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "network"]


def test_slices_run_where_the_dry_run_was(engine: Engine, small_scan: Path) -> None:
    """What engines keep for each thread is warm then."""
    header, lines = items_of(small_scan)
    recording, places = recorded(engine)
    images = answer(Pool(recording), header, *lines)
    assert [i.meta["ChpnetMethod"] for i in images] == ["chpnet"] * 2
    assert len(places) == 3
    assert len({thread for thread, _ in places}) == 1
    assert wait_for(lambda: not networks())


def test_parameters_that_come_late_hold(engine: Engine, small_scan: Path) -> None:
    header, lines = items_of(small_scan)
    recording, _ = recorded(engine)
    wish = Text(b'{"parameters": {"series": 7}}')
    images = answer(Pool(recording), header, wish, *lines)
    assert [i.image_series_index for i in images] == [7, 7]
    assert wait_for(lambda: not networks())


@pytest.fixture
def two_threads() -> Iterator[None]:
    with torch_threads(2):
        yield


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("order", ["images first", "images last", "images only"])
def test_raw_data_and_images_of_one_scan_have_the_cores_both(
    engine: Engine,
    finer: Engine,
    small_scan: Path,
    order: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    header, lines = items_of(small_scan)
    slices, of_slices = recorded(engine)
    pictures, of_pictures = recorded(finer)
    worked_alone: list[int] = []
    take = MrdScan.handler_of

    def handler_of(scan: MrdScan, kind: Any, options: Any) -> Any:
        made = take(scan, kind, options)
        worked_alone.append(torch.get_num_threads())
        return made

    monkeypatch.setattr(MrdScan, "handler_of", handler_of)
    parts = {
        "images first": [picture(), *lines, picture()],
        "images last": [*lines[:-1], picture(), lines[-1]],
        "images only": [picture()],
    }
    images = answer(Pool(slices, pictures), header, *parts[order])
    made = [image.meta["ChpnetMethod"] for image in images]
    assert made.count("superres x2") == len([p for p in parts[order] if p not in lines])
    assert made.count("chpnet") == (0 if order == "images only" else 2)
    assert {count for _, count in of_pictures + of_slices} == {2}
    assert worked_alone == [1] * len(worked_alone)
    assert wait_for(lambda: not networks())


def test_images_alone_need_no_network_for_raw_data(
    engine: Engine, small_scan: Path, peers: ThreadPoolExecutor
) -> None:
    """Where they come before it is loaded, their scan doesn't wait for it."""
    header, lines = items_of(small_scan)
    recording, places = recorded(engine)
    asked: list[str] = []

    class Asked(Pool):
        def get(self, model: str, engine: str, precision: str = "auto") -> Engine:
            asked.append(model)
            return super().get(model, engine, precision)

    for items, times in (([picture()], 0), ([picture(), lines[0]], 1)):
        scan = MrdScan(Connection(BytesStream(raw(header)), "mrd"), Asked(recording))
        options = scan._begin()
        for item in items:
            scan.watch.came(item)
        peers.submit(scan._handler, options).result(PATIENCE).close()
        assert (len(asked), len(places)) == (times, times)
