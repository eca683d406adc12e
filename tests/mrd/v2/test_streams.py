"""MRD v2 streams: the same scan as in v1, damaged ones, and those that come in pieces."""

import io
import os
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.configurations import Configuration
from chpnet_stream.errors import (
    ConfigurationError,
    InconsistentScanError,
    NotAnMrdFileError,
    PeerGoneError,
    ProtocolError,
)
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.v2 import package
from chpnet_stream.mrd.v2.reader import Mrd2Reader, _live_input
from chpnet_stream.mrd.v2.writer import Mrd2Writer
from chpnet_stream.mrd.wire.byte_reader import ByteReader
from chpnet_stream.mrd.wire.byte_stream import BytesStream, PipeStream
from chpnet_stream.mrd.wire.connection import Connection
from chpnet_stream.mrd.wire.limits import WireLimits
from chpnet_stream.mrd.wire.messages import Close, ErrorText, Header, Text
from chpnet_stream.mrd.wire.writer import message_parts
from chpnet_stream.scan.noise_file import read_noise
from chpnet_stream.streaming.mrd_scan import MrdScan
from tests.gadgets.peers import messages_in, raw
from tests.sessions import simulated

mrd = pytest.importorskip("mrd", reason="no mrd-python (pip install 'chpnet-stream[mrd2]')")


def written(*items: Any) -> bytes:
    """A stream of v2."""
    stream = BytesStream()
    writer = Mrd2Writer(stream)
    for item in items:
        writer.write(item)
    return bytes(stream.written)


def read(data: bytes, piece: int = 0, limits: WireLimits | None = None) -> list[Any]:
    reader = Mrd2Reader(BytesStream(data, piece), limits)
    found = []
    while (message := reader.read()) is not None:
        found.append(message)
    return found


def items_of(path: Path) -> list[Any]:
    with ScanFile(path) as scan:
        return [Header(scan.header.xml), *scan.items(), Close()]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("v2")
    return simulated(folder, matrix=(32, 32), coils=2, calibration_lines=12, waveforms=True)


@pytest.mark.parametrize("piece", [0, 777])
def test_a_scan_there_and_back(scan: Path, piece: int) -> None:
    before = items_of(scan)
    after = read(written(*before), piece)
    assert isinstance(after[0], Header)
    for mine, theirs in zip(after[1:], before[1:], strict=True):
        assert list(map(bytes, message_parts(mine))) == list(map(bytes, message_parts(theirs)))


def test_the_package_reads_what_is_written(scan: Path) -> None:
    data = written(*items_of(scan))
    with mrd.BinaryMrdReader(io.BytesIO(data)) as reader:
        assert reader.read_header() is not None
        assert sum(1 for _ in reader.read_data()) == len(items_of(scan)) - 2


def through(data: bytes, v2_in: bool, v2_out: bool, **settings: Any) -> bytes:
    """What `pipe` makes of a stream."""
    stream = BytesStream(data)
    reader = Mrd2Reader(stream) if v2_in else None
    writer = Mrd2Writer(stream, lambda: getattr(reader, "header", None)) if v2_out else None
    connection = Connection(stream, "mrd", reader=reader, writer=writer, one_way=True)
    MrdScan(connection, defaults={"method": "cg-sense", **settings}, in_pipe=True).run()
    return bytes(stream.written)


@pytest.mark.parametrize("changes", [{}, {"image_type": "complex"}, {"dtype": "uint16"}])
def test_the_same_scan_gives_the_same_pixels(scan: Path, changes: dict[str, str]) -> None:
    before = items_of(scan)
    one, two = raw(*before), written(*before)
    wanted = messages_in(through(one, False, False, **changes))
    found = {
        "v2 to v2": read(through(two, True, True, **changes)),
        "v1 to v2": read(through(one, False, True, **changes)),
        "v2 to v1": messages_in(through(two, True, False, **changes)),
    }
    for way, messages in found.items():
        assert [type(m).__name__.removeprefix("Wire") for m in messages] == [
            type(m).__name__.removeprefix("Wire") for m in wanted
        ], way
        for mine, theirs in zip(messages, wanted, strict=True):
            if isinstance(theirs, ismrmrd.Image):
                np.testing.assert_array_equal(mine.data, theirs.data)
                assert mine.data.dtype == theirs.data.dtype, way
                own = {"ChpnetLatencyMs"}
                assert {k: v for k, v in mine.meta.items() if k not in own} == {
                    k: v for k, v in theirs.meta.items() if k not in own
                }, way


def test_the_header_goes_through_unchanged(scan: Path) -> None:
    two = written(*items_of(scan))
    with (
        mrd.BinaryMrdReader(io.BytesIO(two)) as before,
        mrd.BinaryMrdReader(io.BytesIO(through(two, True, True))) as after,
    ):
        assert after.read_header() == before.read_header()
        list(before.read_data()), list(after.read_data())


def test_images_without_a_header(scan: Path) -> None:
    image = ismrmrd.Image.from_array(np.ones((4, 4), np.float32), transpose=False)
    image.image_type = 2  # a phase image, which is handed on as it is
    head, *rest = read(written(image, Close()))
    assert isinstance(head, ismrmrd.Image)
    assert [type(m) for m in rest] == [Close]
    found = read(through(written(image, Close()), True, True))
    np.testing.assert_array_equal(found[0].data, image.data)


def test_a_line_does_not_wait_for_the_next(scan: Path) -> None:
    """The package alone would wait until its buffer of 64 KiB is full."""
    header, *items = items_of(scan)
    line = next(item for item in items if isinstance(item, ismrmrd.Acquisition))
    source, sink = os.pipe()
    reader = Mrd2Reader(PipeStream(source, sink))
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(reader.read() for _ in range(2)))
    thread.start()
    whole = written(header, line)  # smaller than the buffer of a pipe
    os.write(sink, whole)
    thread.join(30)
    assert len(found) == 2
    np.testing.assert_array_equal(found[1].data, line.data)
    os.close(sink)
    os.close(source)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
def test_cut_off(scan: Path, share: float) -> None:
    data = written(*items_of(scan))
    with pytest.raises(PeerGoneError, match="in the middle"):
        read(data[: int(share * len(data))])


def test_without_its_end_it_is_cut_off(scan: Path) -> None:
    stream = BytesStream()
    writer = Mrd2Writer(stream)
    writer.write(items_of(scan)[0])
    writer.fail(Text(b"something"))
    with pytest.raises(PeerGoneError):
        read(bytes(stream.written))
    with pytest.raises(PeerGoneError):
        writer.write(Close())


def test_streams_of_other_kinds(scan: Path) -> None:
    assert read(b"") == []
    with pytest.raises(ProtocolError, match="it may be MRD v1"):
        read(raw(*items_of(scan)))
    data = written(*items_of(scan))
    with pytest.raises(ProtocolError, match="another version of MRD v2"):
        read(data.replace(b"acquisitionTimeStamp", b"acquisitionTimeStomp", 1))


@pytest.mark.parametrize("byte", [0xFF, 0x07])
def test_damaged_streams_are_refused(scan: Path, byte: int) -> None:
    data = bytearray(written(*items_of(scan)))
    first = len(written(items_of(scan)[0]))
    data[first : first + 400] = bytes([byte]) * 400
    with pytest.raises((ProtocolError, InconsistentScanError)):
        read(bytes(data))


def test_nobody_takes_more_memory_than_allowed(scan: Path) -> None:
    with pytest.raises(ProtocolError, match="expected at most 100"):
        read(written(*items_of(scan)), limits=WireLimits(item_bytes=100))


@pytest.mark.parametrize("take", ["read_view", "read_bytearray"])
def test_promises_cost_no_memory_before_they_come(take: str) -> None:
    data = np.random.default_rng(1).bytes(3 * 2**20 + 5)
    whole = _live_input(ByteReader(BytesStream(data, 100_000)))
    assert bytes(whole.read_view(3)) == data[:3]
    assert bytes(getattr(whole, take)(len(data) - 5)) == data[3:-2]
    broken = _live_input(ByteReader(BytesStream(data)))
    tracemalloc.start()
    try:
        with pytest.raises(EOFError):
            getattr(broken, take)(2**30)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 * len(data)


def test_what_v2_has_no_word_for() -> None:
    with pytest.raises(ProtocolError, match="found a ErrorText to send"):
        Mrd2Writer(BytesStream()).write(ErrorText(b""))


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mrd", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'chpnet-stream\[mrd2\]'"):
        package.require_mrd()


def test_noise_covariances(tmp_path: Path, scan: Path) -> None:
    matrix = np.array([[2, 1j], [-1j, 3]], np.complex64)
    path = tmp_path / "noise.mrd"
    with mrd.BinaryMrdNoiseCovarianceWriter(str(path)) as writer:
        writer.write_noise_covariance(
            mrd.NoiseCovariance(
                matrix=matrix,
                sample_count=1000,
                noise_dwell_time_us=5.0,
                receiver_noise_bandwidth=0.5,
            )
        )
    noise = read_noise(path)
    np.testing.assert_allclose(noise.covariance, matrix, rtol=1e-6)
    assert (noise.dwell_time_us, noise.noise_bandwidth, noise.samples) == (5.0, 0.5, 1000)
    with pytest.raises(NotAnMrdFileError, match="MrdNoiseCovariance"):
        read_noise(scan)


def test_a_covariance_stands_for_noise_lines(tmp_path: Path, scan: Path) -> None:
    items = items_of(scan)
    is_noise = [isinstance(i, ismrmrd.Acquisition) and i.isFlagSet(19) for i in items]
    (line,) = (item for item, noise in zip(items, is_noise, strict=True) if noise)
    path = tmp_path / "noise.mrd"
    samples = line.data.astype(np.complex128)
    with mrd.BinaryMrdNoiseCovarianceWriter(str(path)) as writer:
        writer.write_noise_covariance(
            mrd.NoiseCovariance(
                matrix=(samples @ samples.conj().T / (samples.shape[1] - 1)).astype(np.complex64),
                sample_count=samples.shape[1],
                noise_dwell_time_us=line.sample_time_us,
                receiver_noise_bandwidth=0.793,
            )
        )
    wanted = images_in(through(raw(*items), False, False))
    rest = [item for item, noise in zip(items, is_noise, strict=True) if not noise]
    stream = BytesStream(raw(*rest))
    made = MrdScan(Connection(stream, "mrd", one_way=True), defaults={"method": "cg-sense"})
    made.preset(Configuration(), read_noise(path))
    made.run()
    found = images_in(bytes(stream.written))
    assert len(found) == len(wanted) == 2
    for image, same in zip(found, wanted, strict=True):
        np.testing.assert_allclose(image.data, same.data, rtol=1e-3, atol=1e-3)
        assert image.meta["ChpnetNoiseLevel"] == "noise scan of the covariance file"


def images_in(data: bytes) -> list[Any]:
    return [m for m in messages_in(data) if isinstance(m, ismrmrd.Image)]
