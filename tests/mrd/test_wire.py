"""Messages byte for byte: recorded ones, made ones, damaged ones."""

import io
import struct
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.errors import PeerGoneError, ProtocolError
from chpnet_stream.mrd.wire.bucket import Bucket, statistics
from chpnet_stream.mrd.wire.byte_stream import BytesStream
from chpnet_stream.mrd.wire.image import WireImage, meta_bytes, parse_meta
from chpnet_stream.mrd.wire.image_array import ImageArray
from chpnet_stream.mrd.wire.limits import WireLimits
from chpnet_stream.mrd.wire.messages import (
    Close,
    Config,
    ErrorText,
    Filename,
    Header,
    Query,
    Response,
    Text,
)
from chpnet_stream.mrd.wire.nd_array import NdArray
from chpnet_stream.mrd.wire.reader import MessageReader
from chpnet_stream.mrd.wire.recon_data import (
    ReconBit,
    ReconBuffer,
    ReconData,
    SamplingDescription,
)
from chpnet_stream.mrd.wire.writer import MessageWriter, message_parts

RECORDED = (
    "acquisitions",
    "acquisitions_cropped",
    "acquisitions_waveforms",
    "buckets",
    "buffers",
    "client_configfile",
    "client_configtext",
    "client_query",
    "imagearrays",
    "images",
)
RNG = np.random.default_rng(3)


def read_all(data: bytes, piece: int = 0, limits: WireLimits | None = None) -> list[Any]:
    reader = MessageReader(BytesStream(data, piece), limits)
    found = []
    while (message := reader.read()) is not None:
        found.append(message)
    return found


def written(*items: Any) -> bytes:
    stream = BytesStream()
    writer = MessageWriter(stream)
    for item in items:
        writer.write(item)
    return bytes(stream.written)


def again(item: Any) -> Any:
    """The item after a trip over the wire, in one-byte pieces; its bytes stay the same."""
    data = written(item)
    (found,) = read_all(data, piece=1)
    assert written(found) == data
    return found


def noise(*shape: int) -> np.ndarray:
    values = RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)
    return values.astype(np.complex64)


def acquisition(coils: int = 2, samples: int = 6, dimensions: int = 0) -> Any:
    trajectory = RNG.standard_normal((samples, dimensions)).astype(np.float32)
    made = ismrmrd.Acquisition.from_array(noise(coils, samples), trajectory, scan_counter=5)
    made.idx.kspace_encode_step_1 = 9
    return made


def waveform() -> Any:
    return ismrmrd.Waveform.from_array(
        RNG.integers(0, 2**32, (2, 5), dtype=np.uint32), waveform_id=3
    )


def headers(kind: type, *shape: int) -> np.ndarray:
    made = np.empty(shape, dtype=object)
    for number, index in enumerate(np.ndindex(*shape)):
        made[index] = kind(measurement_uid=number)
    return made


@pytest.mark.parametrize("side", ["in", "out"])
@pytest.mark.parametrize("name", RECORDED)
def test_recorded_traffic_is_written_as_it_was_read(
    shared_data: Path, name: str, side: str
) -> None:
    data = (shared_data / "wire" / f"{name}.{side}.bin").read_bytes()
    messages = read_all(data)
    assert written(*messages) == data
    assert isinstance(messages[-1], Close)


@pytest.mark.parametrize("name", ["images", "buckets", "client_query"])
def test_pieces_of_one_byte_are_as_good(shared_data: Path, name: str) -> None:
    data = (shared_data / "wire" / f"{name}.in.bin").read_bytes()
    assert written(*read_all(data, piece=1)) == data


def test_recorded_statistics_of_a_bucket_are_those_of_its_data(shared_data: Path) -> None:
    data = (shared_data / "wire" / "buckets.in.bin").read_bytes()
    for bucket in (m for m in read_all(data) if isinstance(m, Bucket)):
        assert len(bucket.data) == 32
        assert len(bucket.reference) == 16
        own = statistics(bucket.data), statistics(bucket.reference)
        assert own == (bucket.data_statistics, bucket.reference_statistics)


@pytest.mark.parametrize(
    "message",
    [
        Filename("chpnet.xml"),
        Config(b"<configuration/>"),
        Header(b"<ismrmrdHeader/>"),
        Close(),
        Text("grüß".encode()),
        Query(b"gadgetron::version", correlation=7, reserved=1),
        Response(b"4.7.2", correlation=7),
        ErrorText(b"no coils"),
    ],
)
def test_words(message: Any) -> None:
    assert again(message) == message


def test_lengths_of_words_are_those_of_the_protocol() -> None:
    assert written(Text(b"abc")) == struct.pack("<HI", 5, 3) + b"abc"
    assert written(ErrorText(b"abc")) == struct.pack("<HQ", 8, 3) + b"abc"
    assert len(written(Filename("a"))) == 2 + 1024
    assert Text(b"zero at the end\0").text == "zero at the end"
    with pytest.raises(ProtocolError, match="1024 bytes, expected fewer"):
        written(Filename("x" * 1024))


@pytest.mark.parametrize("dimensions", [0, 2])
def test_acquisitions(dimensions: int) -> None:
    made = acquisition(dimensions=dimensions)
    found = again(made)
    assert found == made
    found.data[0, 0] = 1  # memory of its own, to be written to


def test_an_acquisition_is_read_without_copies() -> None:
    made = acquisition()
    assert again(made).data.base is not None


def test_waveforms() -> None:
    made = waveform()
    found = again(made)
    assert found == made


@pytest.mark.parametrize(
    "dtype", ["uint16", "int16", "uint32", "float32", "float64", "complex64", "complex128"]
)
def test_images_of_all_types(dtype: str) -> None:
    pixels = (100 * RNG.random((2, 1, 3, 4))).astype(dtype)
    made = ismrmrd.Image.from_array(pixels, transpose=False, image_index=4)
    made.meta = {"DataRole": "Image", "ImageProcessingHistory": ["a", "b"]}
    found = again(made)
    assert isinstance(found, WireImage)
    np.testing.assert_array_equal(found.data, pixels)
    assert found.image_index == 4
    assert found.meta["ImageProcessingHistory"] == ["a", "b"]


def test_int32_pixels_have_four_bytes_on_the_wire() -> None:
    # The ismrmrd package holds them with eight.
    head = ismrmrd.ImageHeader(data_type=ismrmrd.DATATYPE_INT, channels=1, matrix_size=(3, 2, 1))
    image = ismrmrd.Image(head=head)
    image.data[...] = np.arange(6).reshape(1, 1, 2, 3) - 3
    data = written(image)
    assert len(data) == 2 + 198 + 8 + len(image.attribute_string) + 24
    np.testing.assert_array_equal(again(image).data.ravel(), np.arange(6) - 3)


def test_meta_stay_the_same_bytes_until_they_are_changed() -> None:
    odd = (
        b'<?xml version="1.0"?>\n<ismrmrdMeta>\n\t<meta>\n\t\t<name>a</name>\n\t\t<value>1</value>'
    )
    odd += b"\n\t</meta>\n</ismrmrdMeta>\n\0"
    pixels = np.zeros((2, 2), np.float32)
    plain = written(ismrmrd.Image.from_array(pixels, transpose=False))
    size = struct.unpack_from("<Q", plain, 200)[0]
    data = plain[:200] + struct.pack("<Q", len(odd)) + odd + plain[208 + size :]
    (image,) = read_all(data)
    assert written(image) == data
    assert image.meta["a"] == "1"
    assert written(image) == data
    image.meta["a"] = "2"
    changed = written(image)
    assert odd not in changed
    (found,) = read_all(changed)
    assert found.meta["a"] == "2"


def test_meta_with_a_document_type_are_refused() -> None:
    raw = b"<ismrmrdMeta><meta><name>a</name><value>&b;</value></meta></ismrmrdMeta>"
    with pytest.raises(ProtocolError, match="declare a document type"):
        parse_meta(b"<!DOCTYPE ismrmrdMeta [<!ENTITY b 'c'>]>" + raw)


def test_meta_that_are_no_xml_are_an_error_only_when_they_are_asked_for() -> None:
    image = ismrmrd.Image.from_array(np.zeros((2, 2), np.float32), transpose=False)
    image.meta = {"DataRole": "Image"}
    data = written(image)
    damaged = data.replace(b"</ismrmrdMeta>", b"</ismrmrdMeat>")
    (found,) = read_all(damaged)
    assert written(found) == damaged
    with pytest.raises(ProtocolError, match="meta of an image can't be read"):
        _ = found.meta


@pytest.mark.parametrize("optional", [False, True])
def test_recon_data(optional: bool) -> None:
    def buffer() -> ReconBuffer:
        floats = RNG.standard_normal((2, 6, 4, 1, 1, 1, 1)).astype(np.float32)
        return ReconBuffer(
            noise(6, 4, 1, 2, 1, 1, 1),
            floats if optional else None,
            floats[0] if optional else None,
            headers(ismrmrd.AcquisitionHeader, 4, 1, 1, 1, 1),
            SamplingDescription(encoded_matrix=(6, 4, 1)),
        )

    made = ReconData([ReconBit(buffer(), buffer() if optional else None)])
    (bit,) = again(made)
    (wanted,) = made
    np.testing.assert_array_equal(bit.data.data, wanted.data.data)
    assert bit.data.data.flags.f_contiguous
    assert bit.data.headers[3, 0, 0, 0, 0].measurement_uid == 3
    assert tuple(bit.data.sampling.encoded_matrix) == (6, 4, 1)
    assert (bit.reference is not None) == optional
    if optional:
        np.testing.assert_array_equal(bit.data.trajectory, wanted.data.trajectory)
        np.testing.assert_array_equal(bit.data.density, wanted.data.density)


@pytest.mark.parametrize("optional", [False, True])
def test_image_arrays(optional: bool) -> None:
    made = ImageArray(
        noise(5, 4, 1, 1, 2, 1, 3),
        headers(ismrmrd.ImageHeader, 2, 1, 3),
        [f"<meta>{i}</meta>".encode() for i in range(6)],
        [waveform(), waveform()] if optional else None,
        headers(ismrmrd.AcquisitionHeader, 4, 1, 2, 1, 3) if optional else None,
    )
    found = again(made)
    np.testing.assert_array_equal(found.data, made.data)
    assert found.meta == made.meta
    assert found.headers[1, 0, 2].measurement_uid == made.headers[1, 0, 2].measurement_uid
    if optional:
        assert found.waveforms == made.waveforms
        assert found.acquisition_headers.shape == (4, 1, 2, 1, 3)


def test_buckets_with_waveforms() -> None:
    data, reference = [acquisition(2, 6), acquisition(3, 4, 2)], [acquisition()]
    made = Bucket(data, reference, [waveform()], statistics(data), statistics(reference))
    found = again(made)
    assert found == made


def test_arrays_in_other_orders_and_types_are_written_right() -> None:
    data = noise(2, 1, 1, 1, 1, 4, 6).transpose().astype(np.complex128)
    made = ReconData(
        [
            ReconBit(
                ReconBuffer(
                    data,
                    None,
                    None,
                    headers(ismrmrd.AcquisitionHeader, 4, 1, 1, 1, 2),
                    SamplingDescription(),
                )
            )
        ]
    )
    (bit,) = read_all(written(made))[0]
    np.testing.assert_array_equal(bit.data.data, data)


def test_what_has_no_message_is_refused() -> None:
    with pytest.raises(ProtocolError, match="found a dict to send"):
        message_parts({})


def test_an_unknown_id_is_an_error() -> None:
    data = written(Text(b"x")) + struct.pack("<H", 1009) + bytes(100)
    with pytest.raises(ProtocolError, match=r"message id 1009 at byte 7, expected one of 1, 2, 3"):
        read_all(data)


@pytest.mark.parametrize("name", ["images", "buckets", "buffers", "imagearrays", "acquisitions"])
def test_an_end_at_any_byte_is_told(shared_data: Path, name: str) -> None:
    data = (shared_data / "wire" / f"{name}.in.bin").read_bytes()
    starts = {0}
    reader = MessageReader(BytesStream(data))
    while reader.read() is not None:
        starts.add(reader.bytes.position)
    for end in {*range(0, len(data), 997), *range(1, 64), len(data) - 1, *starts}:
        if end in starts:
            read_all(data[:end])  # between two messages: the conversation misses CLOSE, not bytes
            continue
        with pytest.raises(PeerGoneError, match=rf"ended at byte {end}, in the middle of"):
            read_all(data[:end])


def huge(*fields: int, of: str) -> bytes:
    return struct.pack(of, *fields) + bytes(64)


HUGE = {
    "config": huge(2, 2**32 - 1, of="<HI"),
    "header": huge(3, 2**32 - 1, of="<HI"),
    "text": huge(5, 2**31, of="<HI"),
    "error": huge(8, 2**63, of="<HQ"),
    "query": huge(6, 0, 0, 2**62, of="<HQQQ"),
    "response": huge(7, 0, 2**62, of="<HQQ"),
    "acquisition": struct.pack("<H", 1008)
    + bytes(ismrmrd.AcquisitionHeader(number_of_samples=65535, active_channels=65535))
    + bytes(100),
    "waveform": struct.pack("<H", 1026)
    + bytes(ismrmrd.WaveformHeader(number_of_samples=65535, channels=65535)),
    "image": struct.pack("<H", 1022)
    + bytes(ismrmrd.ImageHeader(data_type=8, channels=65535, matrix_size=(65535, 65535, 65535)))
    + bytes(8),
    "meta": struct.pack("<H", 1022) + bytes(ismrmrd.ImageHeader(data_type=5)) + b"\xff" * 8,
    "recon bits": huge(1023, 2**60, of="<HQ"),
    "axes": huge(1023, 1, 2**60, of="<HQQ"),
    "many axes": huge(1024, 17, *(1,) * 17, of="<HQ17Q"),
    "sizes": huge(1024, 2, 2**40, 2**40, of="<HQQQ"),
    "overflowing sizes": huge(1024, 2, 2**63, 4, of="<HQQQ"),
    "sizes of an array beside an empty axis": struct.pack("<HHHH4Q", 1030, 1, 6, 4, 0, *[2**62] * 3)
    + bytes(64),
    "sizes beside an empty axis": huge(1024, 4, 0, 2**54, 2**62, 1, of="<HQ4Q"),
    "bucket": huge(1050, 2**50, 340 * 2**50, 0, 0, *(0,) * 9, of="<H13Q"),
    "bucket's counts": huge(1050, 2**50, *(0,) * 12, of="<H13Q"),
    "waveforms of a bucket": huge(1050, *(0,) * 8, 8, 8, 2**50, 0, 0, of="<H13Q"),
}


@pytest.mark.parametrize("name", sorted(HUGE))
def test_sizes_are_checked_before_memory_is_taken(name: str) -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError) as found:
            read_all(HUGE[name])
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert not isinstance(found.value, PeerGoneError)


def test_a_promise_that_is_not_kept_takes_no_memory() -> None:
    """Little of it comes: as much memory is taken as has come, and as much again."""
    import tracemalloc

    data = struct.pack("<HI", 3, 60 * 2**20) + bytes(3 * 2**20)
    tracemalloc.start()
    try:
        with pytest.raises(PeerGoneError, match=r"\(3145728 of 62914560 bytes\)"):
            read_all(data)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


def test_long_texts_come_whole() -> None:
    words = bytes(range(256)) * (3 * 2**12 + 1)
    assert read_all(written(Header(words)))[0].raw == words


def test_limits_can_be_set() -> None:
    data = written(Text(b"x" * 2000))
    assert read_all(data)[0].text == "x" * 2000
    with pytest.raises(ProtocolError, match=r"TEXT \(5\) at byte 6 promises 2000 bytes"):
        read_all(data, limits=WireLimits(text_bytes=10))
    image = written(ismrmrd.Image.from_array(np.zeros((64, 64), np.float32), transpose=False))
    with pytest.raises(ProtocolError, match="CHPNET_LIMITS"):
        read_all(image, limits=WireLimits(item_bytes=4096))


def test_unknown_pixels_are_an_error() -> None:
    data = struct.pack("<H", 1022) + bytes(ismrmrd.ImageHeader(data_type=9)) + bytes(8)
    with pytest.raises(ProtocolError, match="data_type 9, expected 1 to 8"):
        read_all(data)


def test_a_part_is_there_or_not() -> None:
    empty = struct.pack("<HQ", 1024, 0) + struct.pack("<Q", 0) + struct.pack("<Q", 0)
    with pytest.raises(ProtocolError, match="found the byte 7"):
        read_all(empty[:2] + struct.pack("<QQ", 1, 0) + struct.pack("<QQ", 1, 0) + bytes(8) + b"\7")


def test_bare_arrays() -> None:
    found = again(NdArray(7, 0, (2, 3), noise(2, 3)))
    assert found.sizes == (2, 3)
    assert found.data.dtype == np.complex64
    for kind, axes, sizes in ((9, 1, (1,)), (1, 99, (1,) * 99), (1, 2, (2**40, 2**40))):
        data = struct.pack(f"<HHHH{len(sizes)}Q", 1030, kind, 0, axes, *sizes)
        with pytest.raises(ProtocolError, match="expected"):
            read_all(data)


def test_streams_of_the_ismrmrd_package(small_scan: Path) -> None:
    """What its own reader and writer have, message by message."""
    from ismrmrd.serialization import ProtocolDeserializer, ProtocolSerializer

    image = ismrmrd.Image.from_array(np.ones((3, 4), np.float32), transpose=False)
    image.meta = ismrmrd.Meta({"a": "b"})
    items = [acquisition(dimensions=2), waveform(), image, np.ones((2, 3), np.float32)]
    theirs = io.BytesIO()
    with ismrmrd.Dataset(str(small_scan), mode="r") as dataset:
        header = dataset.read_xml_header()
    with ProtocolSerializer(theirs) as serializer:
        serializer.serialize(ismrmrd.xsd.CreateFromDocument(header))
        for item in items:
            serializer.serialize(item)
    head, *found, close = read_all(theirs.getvalue())
    assert isinstance(head, Header)
    assert isinstance(close, Close)
    kinds = [ismrmrd.Acquisition, ismrmrd.Waveform, WireImage, NdArray]
    assert [type(m) for m in found] == kinds
    assert written(*found[:3]) == written(*items[:3])
    np.testing.assert_array_equal(found[3].data, items[3])
    ours = io.BytesIO(written(Header(header), *found, close))
    with ProtocolDeserializer(ours) as deserializer:
        back = list(deserializer.deserialize())
    assert [type(m) for m in back[1:4]] == [ismrmrd.Acquisition, ismrmrd.Waveform, ismrmrd.Image]
    np.testing.assert_array_equal(back[4], items[3])


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"name": "value"},
        {"a<b": 'c & d > "e"', "empty": "", "none": []},
        {"several": ["1", "2", ""], "number": 3, "accents": "Größe µ 图", "line": "a\nb\tc"},
    ],
)
def test_meta_are_written_as_the_ismrmrd_package_does(values):
    meta = ismrmrd.Meta(values)
    assert meta_bytes(meta) == str(meta.serialize()).encode("utf-8")
