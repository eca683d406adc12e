"""Acquisitions in, images with complete headers out."""

from dataclasses import replace
from pathlib import Path

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.engines.engine import Engine
from chpnet_stream.errors import (
    EmptyScanError,
    EngineError,
    MissingCalibrationError,
    ModelError,
    UnsupportedScanError,
)
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.header import DEFAULT_NOISE_BANDWIDTH, ScanHeader
from chpnet_stream.mrd.wire.bucket import Bucket
from chpnet_stream.network.weights import find_model
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.session import Session, SessionImage
from chpnet_stream.streaming.acquisitions import AcquisitionHandler
from chpnet_stream.streaming.buffers import BufferHandler
from tests.network.models import tiny_config, untrained, write_model
from tests.scan.building import Scan, header_xml
from tests.sessions import FaultyEngine, quiet_engine, run, simulated


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return quiet_engine(tmp_path_factory.mktemp("quiet"))


def test_images_come_as_soon_as_their_slice_is_complete(small_scan: Path) -> None:
    with ScanFile(small_scan) as scan:
        session = Session(scan.header, ReconstructionOptions(method="cg-sense"))
        counts = [len(session.feed(a)) for a in scan.acquisitions()]
        assert list(session.finish()) == []
    assert [i for i, n in enumerate(counts) if n] == [40, 80]
    assert session.metrics.images == 2
    assert len(session.metrics.latencies_ms) == 2
    assert session.metrics.latency()["first"] > 0
    assert set(session.metrics.stages_ms) >= {"calibration", "data", "cg-sense", "output"}


def test_headers_of_the_images(tmp_path: Path) -> None:
    path = simulated(
        tmp_path,
        slices=3,
        tilt_deg=(10.0, 5.0, 20.0),
        matrix=(48, 64),
        fov_mm=(180.0, 240.0),
        repetitions=2,
    )
    with ScanFile(path) as scan:
        centres = {
            (a.idx.slice, a.idx.repetition): a
            for a in scan.acquisitions()
            if not a.isFlagSet(19) and a.idx.kspace_encode_step_1 == 24
        }
    session, images = run(path, series=7)
    session.set_window([i.result.image for i in images])
    made = [session.to_ismrmrd(i, last=i is images[-1]) for i in images]
    assert [(m.slice, m.repetition) for m in made] == [(s, r) for r in (0, 1) for s in (0, 2, 1)]
    for number, image in enumerate(made, 1):
        line = centres[image.slice, image.repetition]
        for name in ("position", "read_dir", "phase_dir", "slice_dir"):
            np.testing.assert_array_equal(getattr(image, name), getattr(line, name))
        assert image.acquisition_time_stamp == line.acquisition_time_stamp
        assert image.measurement_uid == line.measurement_uid
        assert tuple(image.field_of_view) == (240.0, 180.0, 4.0)
        assert tuple(image.getHead().matrix_size) == (64, 48, 1)
        assert image.data.shape == (1, 1, 48, 64)
        assert image.image_index == number
        assert image.image_series_index == 7
        assert image.image_type == ismrmrd.IMTYPE_MAGNITUDE
        assert bool(image.flags & flags.LAST_IN_MEASUREMENT) == (number == 6)
        meta = image.meta
        assert meta["DataRole"] == "Image"
        assert meta["Keep_image_geometry"] == "1"
        assert meta["ChpnetMethod"] == "cg-sense"
        assert meta["ChpnetNoiseLevel"] == "noise scan"
        assert float(meta["ChpnetDataConsistencyResidual"]) < 0.2
        assert float(meta["ChpnetLatencyMs"]) > 0
        assert "ChpnetFallback" not in meta
        assert "ChpnetMissingLines" not in meta
    windows = {(m.meta["WindowCenter"], m.meta["WindowWidth"]) for m in made}
    assert len(windows) == 1
    width = int(windows.pop()[1])
    assert width == pytest.approx(max(np.percentile(m.data, 99.8) for m in made), abs=1)


def test_the_model_is_named_in_the_meta(engine: Engine, small_scan: Path) -> None:
    session, images = run(small_scan, engine)
    meta = session.to_ismrmrd(images[0]).meta
    assert meta["ChpnetModel"] == "tiny"
    assert meta["ChpnetModelChecksum"] == engine.card.checksum
    assert meta["ChpnetEngine"] == "pytorch-cpu"
    assert meta["SequenceDescriptionAdditional"] == "chpnet"


def test_pixels_window_and_steps_go_with_the_scale(small_scan: Path) -> None:
    plain, images = run(small_scan)
    scaled, _ = run(small_scan, scale=16)
    for session in (plain, scaled):
        session.set_window([i.result.image for i in images])
    for image in images:
        one, sixteen = plain.to_ismrmrd(image), scaled.to_ismrmrd(image)
        assert sixteen.data.dtype == np.float32
        np.testing.assert_array_equal(sixteen.data, 16 * one.data)
        ratio = int(sixteen.meta["WindowWidth"]) / int(one.meta["WindowWidth"])
        assert ratio == pytest.approx(16, rel=0.02)
        assert (one.meta.get("ChpnetScale"), sixteen.meta["ChpnetScale"]) == (None, "16")
    stored = run(small_scan, scale=16, dtype="uint16")[0].to_ismrmrd(images[0])
    back = stored.data * float(stored.meta["RescaleSlope"])
    np.testing.assert_allclose(back, 16 * images[0].result.image[None, None], atol=16 * 0.03)


def test_a_scan_that_begins_beside_the_head_is_not_cut_off(
    small_scan: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With uint16 pixels: the first image, which sets their scale, is of noise alone."""

    def of(image: SessionImage, pixels: np.ndarray) -> SessionImage:
        return replace(image, result=replace(image.result, image=pixels.astype(np.float32)))

    session, (first, second) = run(small_scan, dtype="uint16")
    noise = np.abs(np.random.default_rng(0).standard_normal(first.result.image.shape))
    session.to_ismrmrd(of(first, noise))
    made = session.to_ismrmrd(of(second, 300 * noise))
    back = made.data[0, 0] * float(made.meta["RescaleSlope"])
    np.testing.assert_allclose(back, 300 * noise, atol=0.03)
    assert not [m for m in caplog.messages if "cut off" in m]
    for _ in range(2):
        made = session.to_ismrmrd(of(second, 1e5 * noise))
        assert "are cut off" in made.meta["ImageComments"][-1]
    (told,) = (m for m in caplog.messages if "cut off" in m)
    assert "dtype=float32 has no such limit" in told


def test_without_a_volume_the_first_image_sets_the_window(small_scan: Path) -> None:
    session, images = run(small_scan)
    windows = {session.to_ismrmrd(i).meta["WindowWidth"] for i in images}
    assert windows == {str(round(np.percentile(images[0].result.image, 99.8)))}


def test_a_far_brighter_image_widens_the_window_of_a_dark_first_one(small_scan: Path) -> None:
    """As where a sagittal stack begins beside the head."""
    session, images = run(small_scan, scale=16)
    bright = images[0]
    dark, similar = (
        replace(bright, result=replace(bright.result, image=np.float32(f) * bright.result.image))
        for f in (0.3, 0.6)
    )
    made = [session.to_ismrmrd(i) for i in (dark, bright, similar, dark)]
    white = 16 * np.percentile(bright.result.image, 99.8)
    widths = [int(m.meta["WindowWidth"]) for m in made]
    assert widths == pytest.approx([0.3 * white, *[white] * 3], abs=1)
    assert len(set(widths[1:])) == 1
    session.set_window([dark.result.image])
    assert int(session.to_ismrmrd(bright).meta["WindowWidth"]) == widths[0]


def test_flips_turn_pixels_and_are_told(small_scan: Path) -> None:
    session, images = run(small_scan)
    straight = session.to_ismrmrd(images[0])
    session, images = run(small_scan, flip_rows=True, flip_columns=True)
    turned = session.to_ismrmrd(images[0])
    np.testing.assert_array_equal(turned.data, straight.data[..., ::-1, ::-1])
    np.testing.assert_array_equal(turned.read_dir, straight.read_dir)
    rows = [float(v) for v in turned.meta["ImageRowDir"]]
    np.testing.assert_allclose(rows, -np.asarray(straight.read_dir))


def test_three_dimensional_scans_give_an_image_for_each_partition() -> None:
    ny, nx, nz = 32, 32, 4
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (nz, ny, nx)), indexing="ij")
    volume = ((x**2 + y**2 < 0.6) * (1 + z + 0.5 * (x > 0))).astype(complex)
    maps = np.stack([np.exp(-((x - a) ** 2 + (y - b) ** 2)) for a in (-1, 1) for b in (-1, 1)])
    scan = Scan(ScanHeader.from_xml(header_xml(nx, ny, nz, oversampling=1)), np.empty(0))
    axes = (-3, -2, -1)
    spectrum = np.fft.fftn(np.fft.ifftshift(maps * volume, axes=axes), axes=axes, norm="ortho")
    scan.kspace = np.fft.fftshift(spectrum, axes=axes).astype(np.complex64)
    for kz in range(nz):
        for ky in range(ny):
            last = (flags.LAST_IN_MEASUREMENT,) if (kz, ky) == (nz - 1, ny - 1) else ()
            scan.line(ky, *(25 for _ in last), kz=kz)
    session = Session(scan.header, ReconstructionOptions(method="cg-sense"))
    images = list(session.images(scan.made))
    assert [i.data.counters["partition"] for i in images] == [0, 1, 2, 3]
    found = np.stack([i.result.image for i in images])
    truth = np.abs(volume) * np.linalg.norm(maps, axis=0)
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.999
    made = [session.to_ismrmrd(i) for i in images]
    assert [m.slice for m in made] == [0, 1, 2, 3]
    assert [m.position[2] for m in made] == [-10.0, -5.0, 0.0, 5.0]


@pytest.mark.parametrize("gathered", [False, True], ids=["lines", "a bucket"])
def test_images_that_are_complete_together_leave_one_by_one(gathered: bool) -> None:
    """The last line of a slab completes all partitions; none waits for those behind it."""
    scan = Scan.of(coils=2, nx=16, ny=16, nz=4)
    for kz in range(4):
        scan.lines(range(16), last=() if gathered or kz < 3 else (25,), kz=kz)
    session = Session(scan.header, ReconstructionOptions(method="rss"))
    handler = BufferHandler(session) if gathered else AcquisitionHandler(session)
    items = [Bucket(scan.made)] if gathered else scan.made
    made = [session.metrics.images for item in items for _ in handler.take(item, 0.0)]
    assert made == [1, 2, 3, 4]


def test_a_scan_without_images_is_told(small_scan: Path) -> None:
    with pytest.raises(EmptyScanError, match=r"found no image data.*1 noise"):
        run(small_scan, keep=lambda a: a.isFlagSet(19))
    with pytest.raises(EmptyScanError, match="no acquisitions"):
        run(small_scan, keep=lambda a: False)


def test_missing_calibration_stops_the_scan(small_scan: Path) -> None:
    with pytest.raises(MissingCalibrationError):
        run(small_scan, keep=lambda a: not a.isFlagSet(20))
    _, images = run(small_scan, keep=lambda a: not a.isFlagSet(20), method="rss")
    assert len(images) == 2


def test_what_cannot_be_done_is_refused_at_the_header(tmp_path: Path) -> None:
    spiral = ScanHeader.from_xml(header_xml(trajectory="spiral"))
    with pytest.raises(UnsupportedScanError, match="spiral"):
        Session(spiral, ReconstructionOptions(method="rss"))
    card = write_model(tmp_path, untrained(tiny_config(task="superres")))
    options = ReconstructionOptions(model=str(card), engine="pytorch")
    with pytest.raises(ModelError, match="for the task 'superres', expected one for 'kspace'"):
        Session(ScanHeader.from_xml(header_xml()), options)
    with pytest.raises(ModelError, match="found 'no-such-model'"):
        Session(ScanHeader.from_xml(header_xml()), ReconstructionOptions(model="no-such-model"))


def test_the_engine_is_warm_before_the_first_line(engine: Engine, small_scan: Path) -> None:
    shapes, coils = [], []

    def record(problem):
        shapes.append(tuple(problem.start.shape))
        coils.append(problem.normal.operator.counts)
        return problem.start

    with ScanFile(small_scan) as scan:
        header = scan.header
    faulty = FaultyEngine(engine, record)
    Session(header, None, faulty)
    assert shapes == [(1, 2, 64, 64)]
    assert len(coils[0]) > 1  # as many as in the scan, but for those that add nothing
    Session(header, None, faulty)
    assert len(shapes) == 1  # once for an engine and these sizes
    Session(replace(header, receiver_channels=1), None, faulty)
    assert len(shapes) == 2
    assert coils[1] == (64,)


def test_a_failing_dry_run_is_told_and_costs_no_slice(
    engine: Engine, small_scan: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(problem):
        raise EngineError("no such kernel")

    session, images = run(small_scan, FaultyEngine(engine, broken))
    assert [i.result.method for i in images] == ["cg-sense", "cg-sense"]
    assert caplog.records[0].getMessage() == "the network failed in its dry run: no such kernel"
    assert session.metrics.fallbacks == {"engine failed": 2}


def test_sessions_share_an_engine(tmp_path: Path, small_scan: Path) -> None:
    model = find_model(write_model(tmp_path, untrained(tiny_config(), 0.0)))
    engine = quiet_engine(tmp_path)
    one, images = run(small_scan, engine)
    other, again = run(small_scan, engine)
    assert one.engine is other.engine
    assert model.card.checksum == engine.card.checksum
    for a, b in zip(images, again, strict=True):
        np.testing.assert_array_equal(a.result.image, b.result.image)


@pytest.mark.parametrize(
    ("columns", "matrix", "told"),
    [
        (32, "recon", None),
        (64, "recon", None),
        (64, "encoded", "says 64 x 16, and image_matrix=encoded was asked for"),
        (160, "recon", "says 160 x 16, and nothing is padded"),
    ],
)
def test_a_matrix_that_the_header_promises_alone_is_warned_of(
    columns: int, matrix: str, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Gadgetron's DICOM gadgets divide the header's field of view by it."""
    before, space = header_xml().split("<reconSpace>")
    space = space.replace("<x>32</x>", f"<x>{columns}</x>", 1)
    header = ScanHeader.from_xml(f"{before}<reconSpace>{space}")
    Session(header, ReconstructionOptions(method="rss", image_matrix=matrix))
    expected = f"images have 32 x 16 pixels, reconSpace {told}"
    assert [m[: len(expected)] for m in caplog.messages] == [expected] * (told is not None)


def slab(*, elliptical: bool, noise_scan: bool, seed: int = 0) -> Scan:
    """16 partitions of a smooth object in white noise, with the corners of k-space or without."""
    nx, ny, nz, coils = 32, 32, 16, 4
    rng = np.random.default_rng(seed)

    def noise(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)

    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (nz, ny, nx)), indexing="ij")
    maps = np.stack([np.exp(-((x - a) ** 2 + (y - b) ** 2)) for a in (-1, 1) for b in (-1, 1)])
    axes = (-3, -2, -1)
    images = np.fft.ifftshift(30 * maps * np.exp(-6 * (x**2 + y**2 + z**2)), axes=axes)
    spectrum = np.fft.fftshift(np.fft.fftn(images, axes=axes, norm="ortho"), axes=axes)
    scan = Scan(ScanHeader.from_xml(header_xml(nx, ny, nz, oversampling=1)), np.empty(0))
    scan.kspace = (spectrum + noise(coils, nz, ny, nx)).astype(np.complex64)
    if noise_scan:
        scan.line(0, 19, data=np.sqrt(DEFAULT_NOISE_BANDWIDTH) * noise(coils, 4096))
    rows = [
        (kz, ky)
        for kz in range(nz)
        for ky in range(ny)
        if not elliptical or np.hypot((kz - nz // 2) / (nz // 2), (ky - ny // 2) / (ny // 2)) <= 1
    ]
    for kz, ky in rows:
        scan.line(ky, *((25,) if (kz, ky) == rows[-1] else ()), kz=kz)
    return scan


@pytest.mark.parametrize("elliptical", [False, True])
@pytest.mark.parametrize("noise_scan", [False, True])
def test_partitions_have_the_noise_of_what_was_measured_along_the_slab(
    elliptical: bool, noise_scan: bool, tmp_path: Path
) -> None:
    """The transform along kz spreads it: without corners less is in each, and no line is empty."""
    told = []

    def record(problem):
        told.append(float(problem.noise))
        return problem.start

    scan = slab(elliptical=elliptical, noise_scan=noise_scan)
    engine = FaultyEngine(quiet_engine(tmp_path), record)
    session = Session(scan.header, None, engine)
    images = list(session.images(scan.made))
    assert len(images) == 16
    assert not any(image.result.mark for image in images)
    whitening = session.reconstructor.calibration.whitening(images[0].data).numpy()
    np.testing.assert_allclose(np.abs(np.diag(whitening)), 1, atol=0.05 if noise_scan else 0.25)
    middle = images[8].data
    beside = np.flatnonzero(np.abs(np.arange(32) - 16) > 10)  # lines that hold noise alone
    energy = np.mean(np.abs(middle.kspace[:, beside]) ** 2, axis=(0, 2))
    expected = 1 / middle.noise_averages[beside]
    np.testing.assert_allclose(energy, expected, rtol=0.3)
    share = np.mean(1 / middle.noise_averages)
    assert told[-1] == pytest.approx(np.sqrt(share / 2), rel=1e-4)
    assert (share < 0.85) == elliptical
