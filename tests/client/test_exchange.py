"""A client against servers that do well, badly, or nothing: over real sockets."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np
import pytest

from chpnet_stream.client.exchange import Exchange, connect
from chpnet_stream.client.pacing import Pacer
from chpnet_stream.client.report import SendReport
from chpnet_stream.client.request import Request
from chpnet_stream.client.source import Source
from chpnet_stream.errors import (
    EmptyScanError,
    MissingImagesError,
    NotAnMrdFileError,
    PeerError,
    PeerGoneError,
    ProtocolError,
    StalledPeerError,
    TruncatedFileError,
)
from chpnet_stream.mrd.image_file import ImageFile
from chpnet_stream.mrd.wire.byte_stream import SocketStream
from chpnet_stream.mrd.wire.messages import Close, Config, ErrorText, Filename, Header, Text
from chpnet_stream.mrd.wire.reader import MessageReader
from chpnet_stream.mrd.wire.writer import MessageWriter
from tests.gadgets.peers import SocketPair, raw
from tests.sessions import simulated


class Server:
    """Reads a scan up to CLOSE and answers as it is told."""

    def __init__(self, answer: Callable[[list[Any], MessageWriter, socket.socket], None]) -> None:
        self.answer = answer
        self.items: list[Any] = []

    def __call__(self, sock: socket.socket) -> None:
        stream = SocketStream(sock)
        reader = MessageReader(stream)
        while (message := reader.read()) is not None:
            self.items.append(message)
            if isinstance(message, Close):
                break
        self.answer(self.items, MessageWriter(stream), sock)


def picture(slice_number: int = 0, series: int = 1) -> Any:
    made = ismrmrd.Image.from_array(np.ones((4, 4), np.float32), transpose=False)
    made.slice = slice_number
    made.image_series_index = series
    return made


def sent(path: Path, server: Any, request: Request | None = None, **settings: Any) -> SendReport:
    with SocketPair(server) as pair, Source(path) as source:
        return Exchange(pair.socket, source, request, **settings).run()


def answering(*items: Any) -> Server:
    def answer(_: list[Any], writer: MessageWriter, sock: socket.socket) -> None:
        for item in items:
            writer.write(item)

    return Server(answer)


def test_everything_goes_and_everything_comes(tmp_path: Path) -> None:
    path = simulated(tmp_path, waveforms=True)
    server = answering(picture(0), Text(b"INFO    all well"), picture(1), picture(1, 2), Close())
    report = sent(path, server, Request("some_config"))
    assert report.error is None
    assert report.series == {1: 2, 2: 1}
    assert len(report.latencies_ms) == 3
    assert report.texts == ["INFO    all well"]
    first, header, *items, close = server.items
    assert first == Filename("some_config")
    with Source(path) as source:
        assert header == Header(source.header_xml or b"")
        wanted = list(source.items())
    assert [bytes(i.getHead()) for i in items] == [bytes(i.getHead()) for i in wanted]
    assert report.sent["waveforms"] == sum(isinstance(i, ismrmrd.Waveform) for i in wanted) > 0
    assert isinstance(close, Close)


@pytest.mark.parametrize(
    ("answers", "error", "text"),
    [
        ([picture(0), Close()], MissingImagesError, "none of: slice 1"),
        ([Close()], MissingImagesError, "images of 0 of 2"),
        ([picture(0), picture(1)], PeerGoneError, "without CLOSE"),
        ([], PeerGoneError, "images of 0 of 2"),
        ([Text(b"no such thing"), Close()], PeerError, "told an error: no such thing"),
        ([picture(0), picture(1), Text(b"ERROR   late"), Close()], PeerError, "late"),
        ([ErrorText(b"of a gadget"), Close()], PeerError, "of a gadget"),
        ([Text(b"gone")], PeerError, "gone"),
    ],
)
def test_the_report_tells_the_truth(
    small_scan: Path, answers: list[Any], error: type, text: str
) -> None:
    report = sent(small_scan, answering(*answers))
    assert type(report.error) is error
    assert text in str(report.error)


def test_garbage_is_told(small_scan: Path) -> None:
    def answer(_: Any, writer: Any, sock: socket.socket) -> None:
        sock.sendall(b"\xff\xff" * 10)

    report = sent(small_scan, Server(answer))
    assert type(report.error) is ProtocolError
    assert "message id 65535" in str(report.error)


def test_a_server_that_hangs_is_given_up(small_scan: Path) -> None:
    def serve(sock: socket.socket) -> None:
        while sock.recv(2**16):
            pass

    report = sent(small_scan, serve, timeout=0.5)
    assert type(report.error) is StalledPeerError
    assert "0 of 2 images" in str(report.error)


def test_a_server_that_dies_while_it_is_sent_to(small_scan: Path) -> None:
    def serve(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    report = sent(small_scan, serve)
    assert type(report.error) is PeerGoneError


def test_an_error_that_comes_early_ends_the_sending(tmp_path: Path) -> None:
    """As real servers do: TEXT and CLOSE while the lines still come."""
    path = simulated(tmp_path, slices=1)

    def serve(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(raw(Text(b"refused"), Close()))
        while sock.recv(2**16):
            pass

    report = sent(path, serve, pacer=Pacer(0.01))  # it would take minutes
    assert str(report.error) == "the server told an error: refused"
    assert sum(report.sent.values()) < 10


def test_a_paced_scan_takes_its_time(tmp_path: Path) -> None:
    path = simulated(tmp_path, slices=1, acceleration=1)  # 64 lines of 10 ms
    report = sent(path, answering(picture(0), Close()), pacer=Pacer(1))
    assert report.error is None
    assert report.seconds > 0.6


def test_a_scan_that_can_not_be_read_on_costs_no_image_that_came(tmp_path: Path) -> None:
    path = simulated(tmp_path, slices=1, acceleration=1)  # 64 lines of 10 ms
    with h5py.File(path, "a") as file:
        row = file["dataset/data"][-1]
        row["data"] = row["data"][:-10]
        file["dataset/data"][-1] = row

    def serve(sock: socket.socket) -> None:
        sock.sendall(raw(picture(0)))
        while sock.recv(2**16):
            pass

    report = sent(path, serve, pacer=Pacer(1))
    assert type(report.error) is TruncatedFileError
    assert report.series == {1: 1}


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(PeerGoneError, match=f"can't reach 127.0.0.1 port {port}: "):
        connect("127.0.0.1", port, wait=0.3)


def test_somebody_who_comes_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    late: list[socket.socket] = []
    timer = threading.Timer(0.4, lambda: late.append(socket.create_server(address)))
    timer.start()
    connect(*address, wait=30).close()
    timer.join()
    late[0].close()


@pytest.mark.parametrize(
    ("request_", "first", "behind"),
    [
        (Request(), Config(b"<configuration></configuration>"), [Text(b"of the file")]),
        (Request("a"), Filename("a"), []),
        (Request("", b"<x/>"), Config(b"<x/>"), []),
        (
            Request("", b"", {"a": '1 & "2"'}),
            Config(b'<configuration><property name="a" value=\'1 &amp; "2"\'/></configuration>'),
            [],
        ),
        (
            Request("a", b"", {"series": "2"}),
            Filename("a"),
            [Text(b'{"parameters": {"series": "2"}}')],
        ),
    ],
)
def test_what_is_asked_for(request_: Request, first: Any, behind: list[Any]) -> None:
    assert request_.before_header() == first
    assert request_.behind_header("of the file") == behind


def test_images_of_a_file_are_sent_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "images.h5"
    complex_one = ismrmrd.Image.from_array(np.full((3, 5), 2 + 1j, np.complex64), transpose=False)
    complex_one.image_series_index = 3
    complex_one.meta = ismrmrd.Meta({"SeriesDescription": "one"})
    with ImageFile(path, xml=b"<x/>") as file:
        file.append(picture())
        file.append(complex_one)
    server = answering(picture(), picture(), Close())
    with SocketPair(server) as pair, Source(path, as_images=True) as source:
        assert source.images == 2
        report = Exchange(pair.socket, source).run()
    assert report.error is None
    _, header, first, second, _ = server.items
    assert header == Header(b"<x/>")
    np.testing.assert_array_equal(first.data, picture().data)
    np.testing.assert_array_equal(second.data, complex_one.data)
    assert second.meta["SeriesDescription"] == "one"


def test_files_without_images(tmp_path: Path, small_scan: Path) -> None:
    with pytest.raises(NotAnMrdFileError, match="no images in /dataset"):
        Source(small_scan, as_images=True)
    path = tmp_path / "none.h5"
    with h5py.File(path, "w") as file:
        for name in ("header", "data", "attributes"):
            file.create_dataset(f"dataset/image_1/{name}", (0,), dtype="f4")
    with pytest.raises(EmptyScanError, match="0 images"):
        Source(path, as_images=True)
    path.write_bytes(b"no file of this kind")
    with pytest.raises(NotAnMrdFileError, match="can't be read as an HDF5 file"):
        Source(path, as_images=True)
