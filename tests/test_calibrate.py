"""Whitening and coil maps: made once, kept until their calibration changes."""

import threading
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
import torch

from chpnet_stream import calibrate
from chpnet_stream.calibrate import CoilCalibration
from chpnet_stream.errors import ReconstructionError
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.slices import Slice, SliceAssembler
from chpnet_stream.session import Session
from tests.scan.building import Scan
from tests.sessions import run, simulated

CPU = torch.device("cpu")


def slices_of(path: Path) -> tuple[NoiseScan, list[Slice]]:
    with ScanFile(path) as scan:
        noise = NoiseScan(scan.header.noise_bandwidth)
        acquisitions = list(scan.acquisitions())
        for acquisition in acquisitions:
            if acquisition.isFlagSet(19):
                noise.add(acquisition)
        return noise, list(SliceAssembler(scan.header).assemble(acquisitions))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of all calibrations that ESPIRiT is asked for."""
    calls = []
    real = calibrate.espirit

    def counting(block, shape, **options):
        calls.append(tuple(block.shape))
        return real(block, shape, **options)

    monkeypatch.setattr(calibrate, "espirit", counting)
    return calls


def test_maps_are_those_of_the_coils(small_scan: Path) -> None:
    noise, slices = slices_of(small_scan)
    calibration = CoilCalibration(noise, CPU)
    with h5py.File(small_scan) as file:
        coil_maps, images = file["dataset/truth/coil_maps"][:], file["dataset/truth/images"][:]
    for data in slices:
        found = calibration.sensitivities(data)
        number = data.counters["slice"]
        white = np.tensordot(found.matrix.numpy(), coil_maps[number], 1)
        white /= np.linalg.norm(white, axis=0)
        head = images[number] > 0.2 * images[number].max()
        likeness = np.abs((found.maps.numpy().conj() * white).sum(0))[head]
        assert np.median(likeness) > 0.998
        assert np.quantile(likeness, 0.05) > 0.98


@pytest.mark.parametrize("mode", ["embedded", "separate"])
def test_maps_are_made_once_per_position(
    mode: str, tmp_path: Path, counted: list[tuple[int, ...]]
) -> None:
    changes = {"repetitions": 3} if mode == "separate" else {"contrasts": 2}
    path = simulated(tmp_path, calibration_mode=mode, **changes)
    _, images = run(path)
    assert len(images) == (6 if mode == "separate" else 4)
    # embedded: every contrast brings calibration lines of its own
    assert len(counted) == (2 if mode == "separate" else 4)


def test_repetitions_without_calibration_use_the_maps_that_are_there(
    tmp_path: Path, counted: list[tuple[int, ...]]
) -> None:
    path = simulated(tmp_path, repetitions=3)
    _, images = run(
        path, keep=lambda a: a.idx.repetition == 0 or not (a.isFlagSet(20) or a.isFlagSet(21))
    )
    assert len(images) == 6
    assert all(i.result.fallback is None for i in images)
    assert len(counted) == 2


def test_a_fully_sampled_scan_calibrates_itself(
    tmp_path: Path, counted: list[tuple[int, ...]]
) -> None:
    run(simulated(tmp_path, acceleration=1, contrasts=2))
    assert len(counted) == 4
    assert all(shape[1:] == (32, 32) for shape in counted)


def test_repetitions_that_differ_by_noise_share_their_maps(
    tmp_path: Path, counted: list[tuple[int, ...]]
) -> None:
    _, images = run(simulated(tmp_path, repetitions=3))
    assert len(images) == 6
    assert len({i.data.calibration_version for i in images}) == 6  # all with lines of their own
    assert len(counted) == 2


def test_maps_are_made_anew_when_the_calibration_changes(
    tmp_path: Path, counted: list[tuple[int, ...]]
) -> None:
    noise, slices = slices_of(simulated(tmp_path, repetitions=2, slices=1))
    calibration = CoilCalibration(noise, CPU)
    old = calibration.sensitivities(slices[0])
    assert calibration.sensitivities(slices[1]) is old
    slices[1].calibration *= np.exp(0.1j) * 1.02  # drift of phase and gain: maps don't depend on it
    assert calibration.sensitivities(slices[1]) is old
    slices[1].calibration[1] *= 0.8  # a coil has moved
    new = calibration.sensitivities(slices[1])
    assert new is not old
    fresh = CoilCalibration(noise, CPU).sensitivities(slices[1])
    assert torch.equal(new.maps, fresh.maps)
    assert calibration.sensitivities(slices[0]) is old  # both are kept
    assert calibration.made == len(counted) - 1 == 2


def test_without_a_noise_level_every_change_counts(tmp_path: Path) -> None:
    _, slices = slices_of(simulated(tmp_path, repetitions=2, slices=1, snr=None))
    calibration = CoilCalibration(NoiseScan(), CPU)
    calibration._whitening = torch.eye(4, dtype=torch.complex64)
    old = calibration.sensitivities(slices[0])
    assert calibration.noise_source == "none"
    slices[1].calibration[...] = slices[0].calibration
    assert calibration.sensitivities(slices[1]) is old
    slices[1].calibration[0, 32, 32] *= 1 + 1e-4
    assert calibration.sensitivities(slices[1]) is not old


def test_maps_begun_early_are_those_of_the_complete_slice(
    tmp_path: Path, counted: list[tuple[int, ...]]
) -> None:
    noise, slices = slices_of(simulated(tmp_path, slices=1))
    calibration = CoilCalibration(noise, CPU)
    early = calibration.anticipate(slices[0])
    assert early is not None
    assert calibration.sensitivities(slices[0]) is early.result(60)
    late = CoilCalibration(noise, CPU).sensitivities(slices[0])
    assert torch.equal(early.result().maps, late.maps)
    assert len(counted) == 2
    slices[0].calibration[2] *= 0.5  # begun too early: other samples in the end
    assert calibration.sensitivities(slices[0]) is not early.result()


def test_early_maps_that_fail_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise, slices = slices_of(simulated(tmp_path, slices=1))
    calibration = CoilCalibration(noise, CPU)
    real = calibrate.espirit

    def broken(*args, **options):
        raise ValueError("no signal")

    monkeypatch.setattr(calibrate, "espirit", broken)
    early = calibration.anticipate(slices[0])
    assert isinstance(early.exception(60), ReconstructionError)
    with pytest.raises(ReconstructionError, match="no signal"):
        calibration.sensitivities(slices[0])
    assert not calibration.has_maps
    monkeypatch.setattr(calibrate, "espirit", real)
    assert len(calibration.sensitivities(slices[0]).maps) == 4


def test_nothing_is_begun_before_the_noise_is_known(tmp_path: Path) -> None:
    _, slices = slices_of(simulated(tmp_path, slices=1))
    calibration = CoilCalibration(NoiseScan(), CPU)
    assert calibration.anticipate(slices[0]) is None
    calibration.sensitivities(slices[0])
    assert calibration.anticipate(slices[0]) is not None
    slices[0].calibrated[:] = False
    slices[0].sampled[30:34] = 0
    assert calibration.anticipate(slices[0]) is None  # lines are missing at the centre


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise, slices = slices_of(simulated(tmp_path, slices=3))
    one = 4 * slices[0].kspace.nbytes  # maps of as many virtual coils, in four layouts
    monkeypatch.setattr(calibrate, "CACHE_BYTES", 2 * one)
    calibration = CoilCalibration(noise, CPU)
    first = calibration.sensitivities(slices[0])
    assert calibration.sensitivities(slices[0]) is first
    for data in slices:
        calibration.sensitivities(data)
    assert len(calibration._kept) == 2
    assert calibration.sensitivities(slices[0]) is not first


def test_coils_are_compressed(tmp_path: Path) -> None:
    noise, slices = slices_of(simulated(tmp_path, coils=6, slices=1))
    for most in (1, 3, 64):
        found = CoilCalibration(noise, CPU, virtual_coils=most).sensitivities(slices[0])
        assert found.matrix.shape[1] == 6
        assert len(found.maps) == len(found.matrix) <= min(most, 6)


def test_noise_behind_the_matrix_is_white(tmp_path: Path) -> None:
    path = simulated(tmp_path, slices=1)
    noise, slices = slices_of(path)
    matrix = CoilCalibration(noise, CPU).sensitivities(slices[0]).matrix.numpy()
    with h5py.File(path) as file:
        covariance = file["dataset/truth/noise_covariance"][:]
    white = matrix @ covariance @ matrix.conj().T
    np.testing.assert_allclose(white, np.eye(len(matrix)), atol=0.15)


@pytest.mark.parametrize("snr", [15.0, 40.0, 120.0])
@pytest.mark.parametrize("acceleration", [1, 4])
def test_without_a_noise_scan_the_level_is_estimated(
    snr: float, acceleration: int, tmp_path: Path
) -> None:
    path = simulated(
        tmp_path,
        noise_scan=False,
        slices=1,
        snr=snr,
        acceleration=acceleration,
        matrix=(96, 96),
        averages=2,
    )
    noise, slices = slices_of(path)
    calibration = CoilCalibration(noise, CPU)
    whitening = calibration.whitening(slices[0])
    assert calibration.noise_source == "estimated"
    with h5py.File(path) as file:
        variance = np.real(np.diag(file["dataset/truth/noise_covariance"][:])).mean()
    factor = complex(whitening[0, 0])
    np.testing.assert_allclose(whitening, factor * np.eye(4))
    assert 1 / factor.real == pytest.approx(np.sqrt(variance), rel=0.2)
    # one level for the whole scan
    slices[0].kspace *= 100
    assert calibration.whitening(slices[0]) is whitening


def test_data_without_any_noise_are_not_blown_up(tmp_path: Path) -> None:
    _, slices = slices_of(simulated(tmp_path, noise_scan=False, snr=None, slices=1))
    slices[0].kspace[..., :20] = 0
    slices[0].kspace[:, :20] = 0
    slices[0].kspace[:, 44:] = 0
    slices[0].kspace[..., 20:44] = np.float32(1)
    slices[0].kspace[:, :24] = 0
    slices[0].kspace[:, 40:] = 0
    calibration = CoilCalibration(NoiseScan(), CPU)
    whitening = calibration.whitening(slices[0])
    assert calibration.noise_source == "none"
    assert float(whitening[0, 0].real) == pytest.approx(1e6, rel=1e-3)


def test_the_longer_calibration_region_is_taken(small_scan: Path) -> None:
    noise, (data, _) = slices_of(small_scan)
    data.calibrated[:] = False
    data.calibrated[31:33] = True
    data.calibration[:] = 0  # would give no maps
    maps = CoilCalibration(noise, CPU).sensitivities(data).maps
    assert float(maps.abs().max()) == pytest.approx(1, abs=1e-3)


def test_maps_that_are_empty_are_none() -> None:
    """Calibration too small for its coils: a black image would look like one of nothing."""
    scan = Scan.of(coils=64, nx=8, ny=8)
    session = Session(scan.header, ReconstructionOptions(method="cg-sense"))
    (image,) = session.images(scan.lines(range(8)))
    assert image.result.method == "rss"
    assert "no coil maps" in (image.result.fallback or "")
    assert "agree nowhere" in (image.result.fallback or "")
    assert image.result.image.max() > 0


def test_a_noise_scan_that_is_too_short_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One sample gave images of another scale, and nothing said so."""
    noise, slices = slices_of(simulated(tmp_path, slices=1))
    short = NoiseScan(noise.noise_bandwidth)
    line = ismrmrd.Acquisition.from_array(np.full((noise.coils, 1), 1e-3 + 1e-3j, np.complex64))
    short.add(line)
    calibration = CoilCalibration(short, CPU)
    assert calibration.anticipate(slices[0]) is None
    found = calibration.sensitivities(slices[0]).matrix
    assert calibration.noise_source == "estimated"
    assert "the noise scan has 1 samples of" in caplog.text
    without = CoilCalibration(NoiseScan(), CPU).sensitivities(slices[0]).matrix
    torch.testing.assert_close(found, without)


def test_a_noise_scan_of_other_coils_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That of another coil cost the whole scan."""
    _, slices = slices_of(simulated(tmp_path, slices=1))
    noise = np.random.default_rng(0).standard_normal((2, 256)).astype(np.complex64)
    other = NoiseScan()
    other.add(ismrmrd.Acquisition.from_array(noise))
    calibration = CoilCalibration(other, CPU)
    assert calibration.anticipate(slices[0]) is None
    found = calibration.sensitivities(slices[0]).matrix
    assert calibration.noise_source == "estimated"
    assert "the noise scan has 2 coils, the imaging data" in caplog.text
    without = CoilCalibration(NoiseScan(), CPU).sensitivities(slices[0]).matrix
    torch.testing.assert_close(found, without)


def test_maps_that_failed_for_want_of_memory_are_made_again(
    small_scan: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure was kept in their place, and met by every slice with the same calibration."""
    noise, slices = slices_of(small_scan)
    calibration = CoilCalibration(noise, CPU)
    real = calibrate.espirit

    def short(*words, **options):
        if threading.current_thread().name == "maps":
            raise MemoryError("none left")
        return real(*words, **options)

    monkeypatch.setattr(calibrate, "espirit", short)
    early = calibration.anticipate(slices[0])
    assert early is not None
    assert isinstance(early.exception(60), MemoryError)
    found = calibration.sensitivities(slices[0])
    assert "made again after a MemoryError" in caplog.text
    assert calibration.sensitivities(slices[0]) is found
