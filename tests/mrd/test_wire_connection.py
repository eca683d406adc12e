"""A conversation: how it begins, goes wrong and ends."""

import os
import socket
import struct
import threading
from pathlib import Path

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.errors import (
    ConfigurationError,
    HeaderError,
    PeerError,
    PeerGoneError,
    ProtocolError,
)
from chpnet_stream.mrd.wire.byte_stream import BytesStream, PipeStream, SocketStream
from chpnet_stream.mrd.wire.configuration import properties
from chpnet_stream.mrd.wire.connection import Connection
from chpnet_stream.mrd.wire.messages import (
    Close,
    Config,
    ErrorText,
    Filename,
    Header,
    Text,
)
from tests.gadgets.peers import NO_CONFIG, configuration, messages_in, raw
from tests.scan.building import header_xml

HEADER = Header(header_xml().encode())
IMAGE = ismrmrd.Image.from_array(np.ones((4, 3), np.float32), transpose=False)

LOGGER = "chpnet_stream.mrd.wire.connection"


def connected(*items: object, peer: str = "gadgetron") -> tuple[Connection, BytesStream]:
    stream = BytesStream(raw(*items))
    return Connection(stream, peer), stream  # type: ignore[arg-type]


@pytest.mark.parametrize("config", [NO_CONFIG, b"", b"<?xml version='1.0' encoding='UTF-8'?>\0"])
def test_no_configuration_is_fine(config: bytes) -> None:
    connection, _ = connected(Config(config), HEADER, Close())
    connection.greet()
    assert connection.properties == {}
    assert connection.header.protocol == "test"
    assert list(connection) == []
    assert connection.closed_by_peer


def test_properties_in_both_spellings() -> None:
    assert properties(configuration(model="chpnet-rt", deadline_ms=80)) == {
        "model": "chpnet-rt",
        "deadline_ms": "80",
    }
    elements = b"<configuration><property><name> series </name><value>3</value></property>"
    assert properties(elements + b"</configuration>") == {"series": "3"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"<configuration>", "as plain XML, but it is not well-formed"),
        (b'{"model": 1}', "as plain XML, but it is not well-formed"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", "document type"),
        (b"<a><property value='1'/></a>", "one without a name"),
        (
            b"<a><property name='x' value='1'/><property name='x' value='2'/></a>",
            "property 'x' twice",
        ),
    ],
)
def test_configurations_that_are_none(config: bytes, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        properties(config)


def test_an_mrd_client_names_a_configuration() -> None:
    connection, _ = connected(Filename("chpnet.xml"), Text(b"hello"), HEADER, Close(), peer="mrd")
    connection.greet()
    assert connection.filename == "chpnet.xml"
    assert connection.config is None
    assert connection.properties == {}


def test_a_header_must_come_first() -> None:
    connection, _ = connected(IMAGE)
    with pytest.raises(ProtocolError, match="found WIREIMAGE before the scan's header"):
        connection.greet()
    with pytest.raises(ProtocolError, match="has not come yet"):
        _ = connection.header
    connection, _ = connected(Config(b""), Close())
    with pytest.raises(ProtocolError, match="found CLOSE before"):
        connection.greet()
    connection, _ = connected(Header(b"<nonsense/>"))
    with pytest.raises(HeaderError):
        connection.greet()


def test_texts_without_end_are_refused() -> None:
    connection, _ = connected(*[Text(b"hello")] * 1000, HEADER, peer="mrd")
    connection.keep_text = True
    with pytest.raises(ProtocolError, match="65 texts before the scan's header"):
        connection.greet()


def test_an_end_without_close_is_an_error() -> None:
    connection, _ = connected(HEADER, IMAGE)
    connection.greet()
    found = []
    with pytest.raises(PeerGoneError, match="without CLOSE, the scan is incomplete"):
        found.extend(connection)
    assert not connection.closed_by_peer


def test_errors_and_headers_in_the_middle(caplog: pytest.LogCaptureFixture) -> None:
    connection, _ = connected(HEADER, Text(b"note this"), ErrorText(b"no more coils"))
    connection.greet()
    with caplog.at_level("INFO", logger=LOGGER), pytest.raises(PeerError, match="no more coils"):
        list(connection)
    assert "the peer says something in 9 characters" in caplog.messages
    assert not any("note this" in told for told in caplog.messages)
    connection, _ = connected(HEADER, HEADER)
    connection.greet()
    with pytest.raises(ProtocolError, match="found HEADER in the middle of a scan"):
        list(connection)


def test_close_is_said_once() -> None:
    connection, stream = connected(HEADER)
    connection.send(IMAGE)
    connection.close()
    connection.close()
    connection.fail("too late")
    image, close = messages_in(bytes(stream.written))
    assert isinstance(image, ismrmrd.Image)
    assert isinstance(close, Close)


def test_gadgetron_is_told_by_error_and_others_by_text() -> None:
    connection, stream = connected(HEADER)
    connection.fail("no coils")
    connection.close()
    assert bytes(stream.written) == struct.pack("<HQ", 8, 8) + b"no coils" + struct.pack("<H", 4)
    connection, stream = connected(HEADER, peer="mrd")
    connection.fail("no coils")
    assert messages_in(bytes(stream.written)) == [Text(b"no coils"), Close()]


def test_the_package_keeps_nothing_of_the_socket() -> None:
    from gadgetron.external.connection import Connection as PackageConnection

    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(raw(Config(configuration(series=5)), HEADER, IMAGE, Close()))
        package = PackageConnection(ours)
        connection = Connection.taken_over(package)
        assert connection.properties == {"series": "5"}
        connection.greet()
        (image,) = connection
        connection.send(image)
        connection.fail("as it should")
        package.__exit__()
        with pytest.raises(ProtocolError):
            package.send(IMAGE)
        with pytest.raises(ProtocolError):
            next(package)
        connection.hang_up()
        with theirs.makefile("rb") as back:
            found = messages_in(back.read())
    assert [type(m).__name__ for m in found] == ["WireImage", "ErrorText", "Close"]


def test_a_dead_socket_is_known() -> None:
    ours, theirs = socket.socketpair()
    stream = SocketStream(ours)
    assert not stream.is_dead()
    theirs.sendall(b"x")
    assert not stream.is_dead()
    stream.read_into(memoryview(bytearray(1)))
    theirs.close()
    assert stream.is_dead()
    with pytest.raises(PeerGoneError, match="broke while writing"):
        stream.write([b"x"])
    stream.close()
    assert stream.is_dead()
    with pytest.raises(PeerGoneError, match="broke while reading"):
        stream.read_into(memoryview(bytearray(1)))


def test_hanging_up_wakes_whoever_reads() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(SocketStream(ours))
    timer = threading.Timer(0.05, connection.hang_up)
    timer.start()
    with theirs, pytest.raises(PeerGoneError):
        connection.greet()
    timer.join()


def test_what_comes_after_an_error_is_taken_for_a_while_only() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(SocketStream(ours))
    theirs.sendall(b"x" * 1000)
    with theirs:
        connection.drain(0.05)  # returns although the peer neither sends nor closes


def test_pipes(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(raw(Config(b""), HEADER, IMAGE, Close()))
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        connection = Connection(PipeStream(source.fileno(), sink.fileno()), "mrd")
        connection.greet()
        for item in connection:
            connection.send(item)
        connection.close()
        connection.hang_up()
        with pytest.raises(PeerGoneError):
            connection.send(IMAGE)
    assert (tmp_path / "out").read_bytes() == raw(IMAGE, Close())


def test_a_pipe_that_is_let_go_of_wakes_its_reader() -> None:
    source, kept_open = os.pipe()
    stream = PipeStream(source, kept_open)
    timer = threading.Timer(0.05, stream.close)
    timer.start()
    with pytest.raises(PeerGoneError):
        stream.read_into(memoryview(bytearray(1)))
    timer.join()
    os.close(source)
    assert stream.is_dead()
    os.close(kept_open)


def test_a_pipe_that_nobody_reads_is_gone() -> None:
    source, sink = os.pipe()
    os.close(source)
    nothing, silent = os.pipe()
    stream = PipeStream(nothing, sink)
    with pytest.raises(PeerGoneError, match="whatever reads our output has ended"):
        stream.write([b"x"])
    with pytest.raises(PeerGoneError):  # and nobody needs our input any more
        stream.read_into(memoryview(bytearray(1)))
    for fd in (sink, nothing, silent):
        os.close(fd)


def test_large_items_go_over_sockets_whole() -> None:
    pixels = np.random.default_rng(0).random((512, 512)).astype(np.float32)
    image = ismrmrd.Image.from_array(pixels, transpose=False)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=Connection(SocketStream(theirs)).send, args=(image,))
        sender.start()
        connection = Connection(SocketStream(ours))
        connection._header = object()  # type: ignore[assignment]
        found = next(iter(connection))
        sender.join()
    np.testing.assert_array_equal(found.data[0, 0], pixels)
