"""The same scan through every door; what goes through unchanged; what goes wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.engines.engine import Engine
from chpnet_stream.errors import (
    BadSamplesError,
    ChpnetError,
    ConfigurationError,
    EmptyScanError,
    EngineError,
    InconsistentScanError,
    MissingCalibrationError,
    PeerGoneError,
    ProtocolError,
    ReconstructionError,
)
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.header import ScanHeader
from chpnet_stream.mrd.wire.byte_stream import BytesStream
from chpnet_stream.mrd.wire.connection import Connection
from chpnet_stream.mrd.wire.messages import Close, ErrorText
from chpnet_stream.offline import OfflineJob, run_offline
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.streaming.engine_pool import EnginePool
from chpnet_stream.streaming.scan import Scan
from tests.gadgets.accumulate import buckets, buffers, whitened, without_oversampling
from tests.gadgets.peers import configuration, greeting, messages_in, raw
from tests.helpers import relative_error
from tests.sessions import FaultyEngine, quiet_engine, simulated

CG = configuration(method="cg-sense")


class FixedPool(EnginePool):
    """Has one engine for every name."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def get(self, model: str, engine: str, precision: str = "auto") -> Engine:
        return self.engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return quiet_engine(tmp_path_factory.mktemp("quiet"))


def serve(kind: Any, data: bytes, engine: Engine | None = None, piece: int = 0) -> list[Any]:
    """What a gadget answers; raises what it raises."""
    return messages_in(answer(kind, data, engine, piece)[0])


def answer(
    kind: Any, data: bytes, engine: Engine | None = None, piece: int = 0
) -> tuple[bytes, Exception | None]:
    """The bytes that a gadget answers, and the error that it ends with."""
    stream = BytesStream(data, piece)
    pool = FixedPool(engine) if engine is not None else EnginePool()
    try:
        Scan(Connection(stream), kind, pool).run()
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return bytes(stream.written), error
    return bytes(stream.written), None


def images_of(messages: list[Any]) -> list[Any]:
    return [m for m in messages if isinstance(m, ismrmrd.Image)]


def read(path: Path) -> tuple[ScanHeader, list[Any]]:
    with ScanFile(path) as scan:
        return scan.header, list(scan.acquisitions())


def offline(path: Path, folder: Path, **options: Any) -> list[Any]:
    """The images of the file, by `chpnet-stream offline`."""
    out = folder / "images.h5"
    run_offline(OfflineJob(path, out, options=ReconstructionOptions(**options), overwrite=True))
    with ismrmrd.Dataset(str(out), "dataset", mode="r") as dataset:
        count = dataset.number_of_images("image_1")
        return [dataset.read_image("image_1", i) for i in range(count)]


def through_all_doors(
    path: Path, config: bytes, prepare: Callable[[Any, Any], Any] | None = None
) -> dict[str, list[Any]]:
    """Images by acquisitions, buckets and buffers (readouts cropped as in Gadgetron's chains)."""
    header, lines = read(path)
    encoding = header.encodings[0]
    if prepare is not None:
        lines = list(prepare(lines, header))
    begin = greeting(header.xml, config)
    gathered = list(buckets(without_oversampling(lines, encoding)))
    arrays = [b for bucket in gathered for b in buffers(bucket, encoding)]
    data = {
        "acquisitions": ("acquisitions", lines),
        "cropped": ("acquisitions", list(without_oversampling(lines, encoding))),
        "buckets": ("buffers", gathered),
        "buffers": ("buffers", arrays),
    }
    return {
        name: images_of(serve(kind, begin + raw(*items, Close())))
        for name, (kind, items) in data.items()
    }


SCANS: dict[str, dict[str, Any]] = {
    "plain": {},
    "repetitions": {"repetitions": 2, "slices": 3},
    "partial Fourier": {"partial_fourier": 0.75, "acceleration": 1, "calibration_lines": 0},
    "averages": {"averages": 2, "slices": 1},
}


def no_noise(lines: list[Any], header: Any) -> list[Any]:
    return [a for a in lines if not a.isFlagSet(19)]


@pytest.mark.parametrize("name", sorted(SCANS))
def test_every_door_gives_the_same_image(tmp_path: Path, name: str) -> None:
    options = {**SCANS[name], "noise_scan": False}
    path = simulated(tmp_path, **options)
    wanted = offline(path, tmp_path, method="cg-sense")
    found = through_all_doors(path, CG)
    for door, images in found.items():
        assert len(images) == len(wanted), door
        for image in images:
            (same,) = (
                w for w in wanted if (w.slice, w.repetition) == (image.slice, image.repetition)
            )
            tolerance = 0 if door == "acquisitions" else 1e-4
            assert relative_error(image.data, same.data) <= tolerance, door
            assert tuple(image.position) == tuple(same.position), door
            assert image.acquisition_time_stamp == same.acquisition_time_stamp, door
            assert tuple(image.field_of_view) == tuple(same.field_of_view), door


def test_whitened_upstream_gives_the_same_image_but_for_its_scale(tmp_path: Path) -> None:
    """NoiseAdjust takes the noise scan out; what is left of it is estimated from the data."""
    path = simulated(tmp_path, slices=1)
    wanted = offline(path, tmp_path, method="cg-sense")

    def prepare(lines: list[Any], header: Any) -> Any:
        return whitened(lines, header.noise_bandwidth)

    for door, images in through_all_doors(path, CG, prepare).items():
        (image,), (same,) = images, wanted
        assert image.meta["ChpnetNoiseLevel"] == "estimated"
        scale = np.vdot(image.data, same.data) / np.vdot(image.data, image.data)
        assert scale == pytest.approx(1, rel=0.25), door
        assert relative_error(scale * image.data, same.data) < 0.02, door


@pytest.mark.parametrize("kind", ["acquisitions", "buffers"])
def test_pieces_of_one_byte_give_the_same_bytes(small_scan: Path, kind: str) -> None:
    header, lines = read(small_scan)
    items = lines if kind == "acquisitions" else list(buckets(lines))
    data = greeting(header.xml, CG) + raw(*items, Close())
    whole, pieces = (images_of(serve(kind, data, piece=n)) for n in (0, 1))
    for a, b in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(a.data, b.data)


def test_what_is_not_ours_passes_unchanged_and_in_order(small_scan: Path) -> None:
    header, lines = read(small_scan)
    waves = [
        ismrmrd.Waveform.from_array(np.full((1, 4), n, np.uint32), waveform_id=n) for n in range(3)
    ]
    foreign = ismrmrd.Image.from_array(np.ones((4, 4), np.float32), transpose=False)
    ends = [i + 1 for i, a in enumerate(lines) if a.isFlagSet(8)]
    items = [*lines[: ends[0]], waves[0], foreign, *lines[ends[0] : ends[1]], waves[1], waves[2]]
    found = serve("acquisitions", greeting(header.xml, CG) + raw(*items, Close()))
    kinds = [type(m).__name__ for m in found]
    assert kinds == ["WireImage", "Waveform", "WireImage", "WireImage", *["Waveform"] * 2, "Close"]
    assert raw(found[1]) == raw(waves[0])
    assert raw(found[2]) == raw(foreign)


def test_waveforms_of_a_bucket_go_on(small_scan: Path) -> None:
    header, lines = read(small_scan)
    wave = ismrmrd.Waveform.from_array(np.arange(4, dtype=np.uint32)[None])
    items = buckets([lines[0], wave, *lines[1:]])
    found = serve("buffers", greeting(header.xml, CG) + raw(*items, Close()))
    kinds = [type(m).__name__ for m in found]
    assert kinds == ["Waveform", "WireImage", "WireImage", "Close"]
    assert raw(found[0]) == raw(wave)


def test_interrupted_scans_give_what_there_is(small_scan: Path) -> None:
    header, lines = read(small_scan)
    data = greeting(header.xml, CG) + raw(*lines[:70], Close())
    full, rest = images_of(serve("acquisitions", data))
    assert "ChpnetMissingLines" not in full.meta
    assert int(rest.meta["ChpnetMissingLines"]) > 0


def test_an_end_without_close_sends_no_close(small_scan: Path) -> None:
    header, lines = read(small_scan)
    _, error = answer("acquisitions", greeting(header.xml, CG) + raw(*lines))
    assert isinstance(error, PeerGoneError)


def damaged(lines: list[Any]) -> dict[str, tuple[bytes, type[ChpnetError]]]:
    nan = ismrmrd.Acquisition.from_bytes(lines[10].to_bytes())
    nan.data[:] = np.nan
    coils = ismrmrd.Acquisition.from_array(np.ones((7, lines[10].number_of_samples), np.complex64))
    return {
        "NaN": (raw(*lines[:10], nan, Close()), BadSamplesError),
        "coils": (raw(*lines[:10], coils, Close()), InconsistentScanError),
        "unknown id": (raw(*lines[:10]) + b"\xff\xff" + bytes(500), ProtocolError),
        "no data": (raw(lines[0], Close()), EmptyScanError),
        "no calibration": (
            raw(*(a for a in lines if not a.isFlagSet(20)), Close()),
            MissingCalibrationError,
        ),
    }


@pytest.mark.parametrize("name", ["NaN", "coils", "unknown id", "no data", "no calibration"])
def test_what_goes_wrong_is_told_and_then_comes_close(small_scan: Path, name: str) -> None:
    header, lines = read(small_scan)
    data, kind = damaged(lines)[name]
    written, error = answer("acquisitions", greeting(header.xml, CG) + data)
    assert type(error) is kind
    *_, told, close = messages_in(written)
    assert isinstance(told, ErrorText)
    assert told.text == f"chpnet-stream: {error}"
    assert isinstance(close, Close)


@pytest.mark.parametrize("kind", ["acquisitions", "buffers", "images"])
@pytest.mark.parametrize("sent", ["acquisitions", "buckets", "images"])
def test_a_gadget_that_gets_something_else_says_so(small_scan: Path, kind: str, sent: str) -> None:
    """A server that was started with another --gadget: one for images ended as if all were well."""
    header, lines = read(small_scan)
    picture = ismrmrd.Image.from_array(np.ones((8, 8), np.float32), transpose=False)
    items = {"acquisitions": lines, "buckets": list(buckets(lines)), "images": [picture]}[sent]
    written, error = answer(kind, greeting(header.xml, CG) + raw(*items, Close()))
    if (kind, sent) in (("acquisitions",) * 2, ("buffers", "buckets"), ("images",) * 2):
        assert error is None
        return
    assert isinstance(error, EmptyScanError)
    words = {"acquisitions": "80 acquisitions", "buckets": "2 buffers", "images": "1 images"}
    assert f"{words[sent]}, where this gadget takes {kind};" in str(error)
    *_, told, close = messages_in(written)
    assert told.text == f"chpnet-stream: {error}"
    assert isinstance(close, Close)


def test_slices_before_the_damage_still_come(small_scan: Path) -> None:
    header, lines = read(small_scan)
    data = greeting(header.xml, CG) + raw(*lines[:60]) + b"\xff\xff"
    written, error = answer("acquisitions", data)
    assert isinstance(error, ProtocolError)
    assert [type(m).__name__ for m in messages_in(written)] == ["WireImage", "ErrorText", "Close"]


def test_an_unexpected_error_is_told_too(small_scan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chpnet_stream import session

    def broken(*args: Any, **options: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(session, "image_from_slice", broken)
    header, lines = read(small_scan)
    written, error = answer("acquisitions", greeting(header.xml, CG) + raw(*lines, Close()))
    assert isinstance(error, ZeroDivisionError)
    told, close = messages_in(written)
    assert told.text == "chpnet-stream: unexpected ZeroDivisionError: a bug"
    assert isinstance(close, Close)


@pytest.mark.parametrize("fault", ["header", "model"])
def test_loading_is_over_before_the_peer_is_told_of_a_failure(small_scan: Path, fault: str) -> None:
    """Who is told goes away: who watches for that meanwhile would end the process."""
    header, lines = read(small_scan)
    xml = header.xml.replace(b"cartesian", b"spiral") if fault == "header" else header.xml
    config = configuration(model="no-such-model") if fault == "model" else CG
    stream = BytesStream(greeting(xml, config) + raw(*lines, Close()))
    told: list[int] = []
    with pytest.raises(ChpnetError):
        Scan(
            Connection(stream), "acquisitions", ready=lambda: told.append(len(stream.written))
        ).run()
    assert told[0] == 0
    assert stream.written


def test_buffers_that_do_not_fit_are_refused(small_scan: Path) -> None:
    header, lines = read(small_scan)
    (bucket, *_), encoding = list(buckets(lines)), header.encodings[0]
    (data,) = buffers(bucket, encoding)
    data.bits[0].data.headers = data.bits[0].data.headers[:5]
    _, error = answer("buffers", greeting(header.xml, CG) + raw(data, Close()))
    assert isinstance(error, InconsistentScanError)
    assert "expected data [E0, E1, E2, CHA, N, S, LOC]" in str(error)


def test_a_network_that_fails_as_on_error_says(small_scan: Path, engine: Engine) -> None:
    header, lines = read(small_scan)

    def broken(problem: Any) -> Any:
        raise EngineError("no such kernel")

    def run(**properties: Any) -> tuple[bytes, Exception | None, FaultyEngine]:
        faulty = FaultyEngine(engine, broken)
        config = configuration(**properties)
        data = greeting(header.xml, config) + raw(*lines, Close())
        return *answer("acquisitions", data, faulty), faulty

    written, error, faulty = run()
    assert error is None
    images = images_of(messages_in(written))
    assert [i.meta["ChpnetMethod"] for i in images] == ["cg-sense", "cg-sense"]
    assert all("no such kernel" in i.meta["ChpnetFallback"] for i in images)
    assert faulty.runs == 3  # a dry run and two slices

    written, error, _ = run(on_error="error")
    assert isinstance(error, ReconstructionError)
    assert [type(m).__name__ for m in messages_in(written)] == ["ErrorText", "Close"]

    written, error, faulty = run(on_error="baseline-only")
    assert error is None
    assert len(images_of(messages_in(written))) == 2
    assert faulty.runs == 2  # not asked again


def test_the_baseline_goes_beside_as_a_series_of_its_own(small_scan: Path, engine: Engine) -> None:
    header, lines = read(small_scan)
    lines[-1].set_flag(25)
    config = configuration(send_baseline="true", series=4, baseline_series=9)
    data = greeting(header.xml, config) + raw(*lines, Close())
    images = images_of(serve("acquisitions", data, engine))
    assert [i.image_series_index for i in images] == [4, 9, 4, 9]
    assert [i.meta["ChpnetMethod"] for i in images] == ["chpnet", "cg-sense"] * 2
    assert [i.flags >> 24 & 1 for i in images] == [0, 0, 0, 1]
    plain = images_of(serve("acquisitions", greeting(header.xml, CG) + raw(*lines, Close())))
    for beside, alone in zip(images[1::2], plain, strict=True):
        np.testing.assert_array_equal(beside.data, alone.data)
        assert "ChpnetFallback" not in beside.meta


@pytest.mark.parametrize("kind", ["acquisitions", "buffers"])
def test_types_that_gadgetrons_reader_takes(small_scan: Path, kind: str) -> None:
    header, lines = read(small_scan)
    items = lines if kind == "acquisitions" else list(buckets(lines))

    def run(**properties: Any) -> list[Any]:
        config = configuration(method="cg-sense", **properties)
        return images_of(serve(kind, greeting(header.xml, config) + raw(*items, Close())))

    plain, complex_, stored = run(), run(image_type="complex"), run(dtype="uint16")
    assert [i.data_type for i in (plain[0], complex_[0], stored[0])] == [5, 7, 1]
    assert [i.image_type for i in (plain[0], complex_[0], stored[0])] == [1, 5, 1]
    for magnitude, pixels, short in zip(plain, complex_, stored, strict=True):
        np.testing.assert_allclose(np.abs(pixels.data), magnitude.data, rtol=1e-5, atol=1e-4)
        slope = float(short.meta["RescaleSlope"])
        assert float(short.meta["GADGETRON_ScaleRatio"]) == pytest.approx(1 / slope)
        np.testing.assert_allclose(slope * short.data, magnitude.data, atol=0.51 * slope)
        assert short.data.max() < 2**15
    assert len({i.meta["RescaleSlope"] for i in stored}) == 1  # one scale for the volume
    window = float(stored[0].meta["GADGETRON_WindowWidth"]) * slope
    assert window == pytest.approx(float(stored[0].meta["WindowWidth"]), rel=0.02)
    _, error = answer(
        kind,
        greeting(header.xml, configuration(image_type="complex", dtype="uint16")) + raw(Close()),
    )
    assert isinstance(error, ConfigurationError)


ORIENTATIONS = {
    "axial": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "flipped phase encoding": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "phase left to right": ((0, 1, 0), (1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
    "coronal": ((0, 0, -1), (1, 0, 0), (0, 1, 0)),
    "oblique": ((0.8, 0.6, 0), (-0.36, 0.48, 0.8), (0.48, -0.64, 0.6)),
}


@pytest.mark.parametrize("kind", ["acquisitions", "buffers"])
@pytest.mark.parametrize("name", sorted(ORIENTATIONS))
def test_geometry_of_every_orientation(small_scan: Path, name: str, kind: str) -> None:
    header, lines = read(small_scan)
    directions = dict(zip(("read_dir", "phase_dir", "slice_dir"), ORIENTATIONS[name], strict=True))
    for line in lines:
        for field, direction in directions.items():
            setattr(line, field, direction)
        line.position = tuple(10.0 * line.idx.slice * d + 3.0 for d in directions["slice_dir"])
        line.patient_table_position = (0.0, 0.0, -120.0)
    items = lines if kind == "acquisitions" else list(buckets(lines))
    found = images_of(serve(kind, greeting(header.xml, CG) + raw(*items, Close())))
    assert len(found) == 2
    for image in found:
        position = [10.0 * image.slice * d + 3.0 for d in directions["slice_dir"]]
        np.testing.assert_allclose(image.position, position, rtol=1e-6)
        np.testing.assert_allclose([float(v) for v in image.meta["PatientPosition"]], position)
        assert tuple(image.patient_table_position) == (0.0, 0.0, -120.0)
        assert image.meta["Keep_image_geometry"] == "1"
        for field, meta in (
            ("read_dir", "ImageRowDir"),
            ("phase_dir", "ImageColumnDir"),
            ("slice_dir", "ImageSliceDir"),
        ):
            np.testing.assert_allclose(getattr(image, field), directions[field], rtol=1e-6)
            for spelling in (meta, field):
                told = [float(v) for v in image.meta[spelling]]
                np.testing.assert_allclose(told, directions[field], rtol=1e-6)


def test_meta_have_what_gadgetrons_own_images_have(shared_data: Path, small_scan: Path) -> None:
    recorded = (shared_data / "wire" / "client_configfile.out.bin").read_bytes()
    theirs = images_of(messages_in(recorded))[0]
    header, lines = read(small_scan)
    ours = images_of(serve("acquisitions", greeting(header.xml, CG) + raw(*lines, Close())))[0]
    # No build of Gadgetron; nobody needs the name; the simulated scan has no ID; one time is kept.
    left_out = {"gadgetron_sha1", "patientID", "measurementID", "physiology_time_range"}
    filled = {n for n, v in theirs.meta.items() if v not in (None, "")}
    assert filled - left_out <= set(ours.meta)
    for name in filled - left_out:
        many = isinstance(theirs.meta[name], list)
        if name not in ("GADGETRON_ImageProcessingHistory", "GADGETRON_ImageComment"):
            assert isinstance(ours.meta[name], list) == many, name


def test_recorded_scan_with_waveforms(shared_data: Path, engine: Engine) -> None:
    data = (shared_data / "wire" / "acquisitions_waveforms.in.bin").read_bytes()
    sent = [m for m in messages_in(data) if isinstance(m, ismrmrd.Waveform)]
    found = serve("acquisitions", data, engine)
    assert raw(*(m for m in found if isinstance(m, ismrmrd.Waveform))) == raw(*sent)
    assert [i.repetition for i in images_of(found)] == [0, 1]


@pytest.mark.parametrize("name", ["client_configfile", "client_configtext"])
def test_what_gadgetrons_client_sends_is_understood(
    shared_data: Path, engine: Engine, name: str
) -> None:
    """A client names a configuration (1), or sends a whole chain (2), which has our properties."""
    data = (shared_data / "wire" / f"{name}.in.bin").read_bytes()
    images = images_of(serve("acquisitions", data, engine))
    assert [i.repetition for i in images] == [0, 1]
    assert images[0].data.shape == (1, 1, 64, 64)
