"""A server for MRD clients: what they send, several at once, stalled ones, noise of others."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np
import pytest

from chpnet_stream import __version__
from chpnet_stream.client.exchange import Exchange, connect
from chpnet_stream.client.pacing import Pacer
from chpnet_stream.client.request import Request
from chpnet_stream.client.source import Source
from chpnet_stream.configurations import Configurations
from chpnet_stream.doctor.ports import what_answers
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.messages import Close, Config, Filename, Header, Response, Text
from chpnet_stream.mrd_server import MrdServer
from chpnet_stream.server import SPARE
from tests.gadgets.peers import Answer, configuration, exchange, raw
from tests.helpers import running, wait_for
from tests.scan.building import header_xml
from tests.sessions import run, simulated

TINY: dict[str, Any] = {"matrix": (32, 32), "coils": 2, "calibration_lines": 12}
CG = Config(configuration(method="cg-sense"))


def serving(**settings: Any) -> AbstractContextManager[MrdServer]:
    return running(MrdServer(port=0, **settings))


@pytest.fixture
def server() -> Iterator[MrdServer]:
    with serving(defaults={"method": "cg-sense"}) as made:
        yield made


def dialled(server: MrdServer) -> socket.socket:
    sock = socket.create_connection(server.address)
    sock.settimeout(60)
    return sock


def ask(server: MrdServer, *items: Any) -> Answer:
    with dialled(server) as sock:
        return exchange(sock, raw(*items))


def said(answer: Answer) -> list[str]:
    return [m.text for m in answer.messages if isinstance(m, Text)]


def scan_items(path: Path, keep: Callable[[Any], bool] = lambda item: True) -> list[Any]:
    with ScanFile(path) as scan:
        return [Header(scan.header.xml), *filter(keep, scan.items())]


@pytest.mark.parametrize(
    ("name", "method", "pixels"),
    [
        ("client_configfile", "cg-sense", np.uint16),
        ("client_configtext", "cg-sense", np.float32),
        ("acquisitions", "cg-sense", np.float32),
        ("acquisitions_waveforms", "cg-sense", np.float32),
        ("images", "superres x2", np.complex64),
    ],
)
def test_recorded_clients_get_their_images(
    server: MrdServer, shared_data: Path, name: str, method: str, pixels: type
) -> None:
    recorded = (shared_data / "wire" / f"{name}.in.bin").read_bytes()
    with dialled(server) as sock:
        answer = exchange(sock, recorded)
    assert [i.repetition for i in answer.images] == [0, 1]
    assert {i.data.dtype for i in answer.images} == {np.dtype(pixels)}
    assert {i.meta["ChpnetMethod"] for i in answer.images} == {method}
    assert [type(m).__name__ for m in answer.messages] == ["WireImage", "WireImage", "Close"]
    told = "ChpnetConfiguration" in answer.images[0].meta
    assert told == name.startswith("client_")  # what Gadgetron's own gadgets would have done


def test_the_version_query_is_answered(server: MrdServer, shared_data: Path) -> None:
    with dialled(server) as sock:
        answer = exchange(sock, (shared_data / "wire" / "client_query.in.bin").read_bytes())
    assert answer.messages == [Response(f"chpnet-stream {__version__}".encode(), 0), Close()]
    assert server.failed == 0


@pytest.mark.parametrize("name", ["openrecon", "nobody knows me"])
@pytest.mark.parametrize("first", [True, False])
def test_properties_as_json_behind_a_name(
    server: MrdServer, small_scan: Path, name: str, first: bool
) -> None:
    header, *lines = scan_items(small_scan)
    wish = Text(b'{"parameters": {"customconfig": "", "config": "rss", "series": 7}}')
    begin = [wish, header] if first else [header, Text(b"hello"), wish]
    answer = ask(server, Filename(name), *begin, *lines, Close())
    assert [i.meta["ChpnetMethod"] for i in answer.images] == ["rss", "rss"]
    assert {i.image_series_index for i in answer.images} == {7}


def test_complex_images_on_request(server: MrdServer, small_scan: Path) -> None:
    wish = Config(b'{"parameters": {"image_type": "complex"}}')
    answer = ask(server, wish, *scan_items(small_scan), Close())
    assert {i.data.dtype for i in answer.images} == {np.dtype(np.complex64)}


def test_what_is_unknown_is_told_and_not_replaced(server: MrdServer, small_scan: Path) -> None:
    items = scan_items(small_scan)
    answer = ask(server, Filename("chpnet_realtime_2.xml"), *items, Close())
    assert answer.images == []
    assert isinstance(answer.messages[-1], Close)
    (text,) = said(answer)
    assert "unknown configuration" in text
    assert "did you mean 'chpnet_realtime'" in text
    answer = ask(server, Config(configuration(metod="rss")), *items, Close())
    assert "did you mean 'method'" in said(answer)[0]
    assert len(ask(server, Filename("cg-sense"), *items, Close()).images) == 2


def test_the_version_query_is_answered_while_all_places_are_taken(small_scan: Path) -> None:
    """A health check that waits for a place would have the server stopped, with its scans."""
    items = raw(*scan_items(small_scan), Close())
    with (
        serving(defaults={"method": "cg-sense"}, connections=1) as server,
        dialled(server) as first,
        dialled(server) as second,
    ):
        first.sendall(items[:-100])
        wait_for(lambda: server._open)
        second.sendall(items)
        for _ in range(2 * SPARE):
            assert "chpnet-stream" in what_answers(server.address[1], 20)
        second.settimeout(1)
        with pytest.raises(TimeoutError):
            second.recv(1)  # it waits for its place
        second.settimeout(60)
        assert len(exchange(first, items[-100:]).images) == 2
        assert len(exchange(second, b"").images) == 2
        assert server.failed == 0


def test_names_of_a_site(small_scan: Path) -> None:
    configurations = Configurations({"Brain_AI": "rss"})
    with serving(configurations=configurations) as server:
        answer = ask(server, Filename("Brain_AI.xml"), *scan_items(small_scan), Close())
    assert {i.meta["ChpnetMethod"] for i in answer.images} == {"rss"}


def test_a_chain_for_images_takes_no_raw_data(server: MrdServer, small_scan: Path) -> None:
    items = scan_items(small_scan)
    answer = ask(server, Filename("chpnet_grappa_enhance"), *items, Close())
    assert "takes images, found acquisitions" in said(answer)[0]


def picture(value: float, size: int = 8) -> Any:
    made = ismrmrd.Image.from_array(np.full((size, size), value, np.float32), transpose=False)
    made.image_type = ismrmrd.IMTYPE_MAGNITUDE
    return made


@pytest.mark.parametrize("header", [[], [Header(b"Dummy XML header")]])
def test_images_need_no_header(server: MrdServer, header: list[Any]) -> None:
    answer = ask(server, *header, picture(3), Close())
    (image,) = answer.images
    assert image.data.shape == (1, 1, 16, 16)
    np.testing.assert_allclose(image.data.mean(), 3, rtol=0.05)
    assert image.meta["ChpnetMethod"] == "superres x2"


def test_a_header_that_raw_data_need_is_missed_when_they_come(
    server: MrdServer, small_scan: Path
) -> None:
    _, *lines = scan_items(small_scan)
    assert "well-formed" in said(ask(server, CG, Header(b"Dummy"), *lines, Close()))[0]
    spiral = Header(header_xml(trajectory="spiral").encode())
    assert "spiral" in said(ask(server, CG, spiral, *lines, Close()))[0]
    assert len(ask(server, CG, spiral, picture(1), Close()).images) == 1  # no line, no matter


def test_nothing_is_no_scan(server: MrdServer, small_scan: Path) -> None:
    header, *_ = scan_items(small_scan)
    assert "neither acquisitions nor images" in said(ask(server, CG, header, Close()))[0]


def with_measurement(path: Path, own: str, refers_to: str = "") -> Path:
    """Give a scan a measurementID, and a noise measurement that it refers to."""
    dependency = (
        "<measurementDependency><dependencyType>Noise</dependencyType>"
        f"<measurementID>{refers_to}</measurementID></measurementDependency>"
    )
    with h5py.File(path, "r+") as file:
        xml = file["dataset/xml"][0].decode()
        start, inside, end = re.split("</?measurementInformation>", xml)
        inside = f"<measurementID>{own}</measurementID>{inside}" + (dependency if refers_to else "")
        inside = f"<measurementInformation>{inside}</measurementInformation>"
        file["dataset/xml"][0] = start + inside + end
    return path


def is_noise(item: Any) -> bool:
    return isinstance(item, ismrmrd.Acquisition) and item.isFlagSet(19)


@pytest.mark.parametrize("config", [CG, Filename("default_measurement_dependencies.xml")])
def test_noise_of_another_measurement(tmp_path: Path, server: MrdServer, config: Any) -> None:
    path = with_measurement(simulated(tmp_path), "noise-1", "noise-1")
    whole = ask(server, CG, *scan_items(path), Close())
    assert server.noise.get("noise-1") is not None
    with serving(defaults={"method": "cg-sense"}) as fresh:
        header, *items = scan_items(path)
        only_noise = ask(fresh, config, header, *filter(is_noise, items), Close())
        assert [type(m) for m in only_noise.messages] == [Close]  # kept, and nothing to show
        rest = [item for item in items if not is_noise(item)]
        answer = ask(fresh, CG, header, *rest, Close())
        assert fresh.failed == 0
    assert len(answer.images) == 2
    for image, same in zip(answer.images, whole.images, strict=True):
        np.testing.assert_array_equal(image.data, same.data)
        assert image.meta["ChpnetNoiseLevel"] == "noise scan of measurement noise-1"


@pytest.mark.parametrize("named", [False, True])
def test_the_log_says_whether_a_noise_measurement_was_kept(
    tmp_path: Path, server: MrdServer, caplog: pytest.LogCaptureFixture, named: bool
) -> None:
    path = simulated(tmp_path, **TINY)
    if named:
        with_measurement(path, "noise-5")
    header, *noise = scan_items(path, is_noise)
    with caplog.at_level("INFO", logger="chpnet_stream"):
        ask(server, CG, header, *noise, Close())
    (told,) = [message for message in caplog.messages if "only noise" in message]
    assert ("not kept: its header has no measurementID" in told) != named
    assert len(server.noise) == named


def test_a_noise_measurement_may_be_named_by_its_number_alone(
    tmp_path: Path, server: MrdServer
) -> None:
    """Siemens scans are called patient_study_number; older conversions refer to the number."""
    path = with_measurement(simulated(tmp_path), "4_17_66056")
    ask(server, CG, *scan_items(path), Close())
    for own, level in (("4_17_66060", "noise scan of measurement 66056"), ("5_1_7", "estimated")):
        (tmp_path / own).mkdir()
        path = with_measurement(simulated(tmp_path / own), own, "66056")
        header, *items = scan_items(path, lambda item: not is_noise(item))
        answer = ask(server, CG, header, *items, Close())
        assert [i.meta["ChpnetNoiseLevel"] for i in answer.images] == [level] * 2


def test_noise_that_is_not_known_is_missed_in_words(tmp_path: Path, server: MrdServer) -> None:
    path = with_measurement(simulated(tmp_path), "scan-2", "noise-9")
    header, *items = scan_items(path, lambda item: not is_noise(item))
    answer = ask(server, CG, header, *items, Close())
    assert len(answer.images) == 2
    meta = answer.images[0].meta
    assert meta["ChpnetNoiseLevel"] == "estimated"
    assert meta["ChpnetNoiseDependency"] == "measurement noise-9 is not known here"


def test_noise_of_other_coils_is_not_used(tmp_path: Path, server: MrdServer) -> None:
    (tmp_path / "other").mkdir()
    other = with_measurement(simulated(tmp_path / "other", **TINY), "noise-3")
    assert len(ask(server, CG, *scan_items(other), Close()).images) == 2
    path = with_measurement(simulated(tmp_path), "scan-3", "noise-3")
    header, *items = scan_items(path, lambda item: not is_noise(item))
    answer = ask(server, CG, header, *items, Close())
    assert {i.meta["ChpnetNoiseDependency"] for i in answer.images} == {
        "measurement noise-3 has other coils"
    }


def test_eight_paced_scans_at_once(tmp_path: Path) -> None:
    """Each with a head of its own; every image comes, to the one it belongs to."""
    paths = []
    for seed in range(8):
        (tmp_path / str(seed)).mkdir()
        paths.append(simulated(tmp_path / str(seed), slices=3, seed=seed, **TINY))
    wanted = [[image.result.image for image in run(path)[1]] for path in paths]
    found: list[dict[int, np.ndarray]] = [{} for _ in paths]

    class Keep:
        def __init__(self, number: int) -> None:
            self.number = number

        def append(self, image: Any) -> None:
            found[self.number][image.slice] = image.data[0, 0]

    reports: list[Any] = [None] * 8

    def send(number: int) -> None:
        with Source(paths[number]) as source:
            sock = connect(*server.address)
            request = Request(properties={"method": "cg-sense"})
            mine = Exchange(sock, source, request, pacer=Pacer(2), sink=Keep(number))
            reports[number] = mine.run()

    with serving(workers=2) as server:
        threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.failed == 0
    assert [report.error for report in reports] == [None] * 8
    assert all(len(report.latencies_ms) == 3 for report in reports)
    for number, images in enumerate(wanted):
        with ScanFile(paths[number]) as scan:
            order = [h["idx"]["slice"] for h in next(scan.heads()) if h["flags"] & (1 << 7)]
        for place, image in zip(order, images, strict=True):
            np.testing.assert_array_equal(found[number][int(place)], image)


def test_a_stalled_client_holds_up_nobody(small_scan: Path) -> None:
    """One says nothing, one stops in the middle, one reads no images; there is one worker."""
    good = [CG, *scan_items(small_scan), Close()]
    data, flood = raw(*good), raw(*[picture(1, 1024)] * 24)  # 96 MB, more than sockets hold
    with serving(workers=1) as server:
        silent, halting, deaf = (dialled(server) for _ in range(3))
        with silent, halting, deaf:
            halting.sendall(data[: len(data) // 2])
            sender = threading.Thread(target=send_all, args=(deaf, flood))
            sender.start()
            for _ in range(2):
                assert len(ask(server, *good).images) == 2
            assert server.scans == 5
            assert server.failed == 0  # the three are still there
            halting.sendall(data[len(data) // 2 :])
            assert len(exchange(halting, b"").images) == 2
        sender.join()
    assert server.failed == 2


def send_all(sock: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        sock.sendall(data)


def test_stalled_clients_are_sent_away_with_a_word(small_scan: Path) -> None:
    data = raw(CG, *scan_items(small_scan))
    with serving(patience=0.3, idle=60) as server, dialled(server) as silent:
        assert "no header came for 0.3 s" in said(exchange(silent, b""))[0]
    with serving(idle=1) as server:
        with dialled(server) as halting:
            answer = exchange(halting, data[: 9 * len(data) // 10])
            assert len(answer.images) == 1  # of the slice that is whole
            assert "nothing came for 1 s" in said(answer)[0]
        with dialled(server) as deaf:
            send_all(deaf, raw(*[picture(1, 1024)] * 24))
            while server.failed < 2:
                threading.Event().wait(0.05)


def test_whatever_a_client_does(server: MrdServer, small_scan: Path) -> None:
    good = [CG, *scan_items(small_scan), Close()]
    data = raw(*good)
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"\x03\x00\xff\xff\xff\xff", data[:999], b""):
        with dialled(server) as sock:
            sock.sendall(nonsense)
    with dialled(server) as sock:  # closes in the middle of a scan, with images on their way
        sock.sendall(data[: 3 * len(data) // 4])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
    assert len(ask(server, *good).images) == 2
