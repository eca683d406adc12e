import shutil
import subprocess
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import ismrmrd.xsd
import numpy as np
import pytest

from chpnet_stream.errors import OutputError, OutputExistsError
from chpnet_stream.simulation.kspace import root_sum_of_squares
from chpnet_stream.simulation.noise import NOISE_BANDWIDTH
from chpnet_stream.simulation.options import SimulationOptions
from chpnet_stream.simulation.scan import NOISE_DWELL_US, simulate_scan
from tests.helpers import (
    no_file_larger_than,
    read_acquisitions,
    relative_error,
    small_options,
)

QUIET = {"snr": None, "noise_scan": False}


def simulate(path: Path, **changes: Any) -> tuple[SimulationOptions, list[Any]]:
    options = small_options(**changes)
    simulate_scan(path, options)
    return options, read_acquisitions(path)


def truth_of(path: Path, name: str = "images") -> np.ndarray:
    with h5py.File(path) as file:
        return file[f"dataset/truth/{name}"][()]


def header_of(path: Path) -> Any:
    with ismrmrd.Dataset(str(path), "dataset", mode="r") as dataset:
        return ismrmrd.xsd.CreateFromDocument(dataset.read_xml_header())


def is_set(acquisition: Any, *flags: int) -> bool:
    return all(acquisition.isFlagSet(flag) for flag in flags)


def place(path: Path, acquisitions: list[Any]) -> np.ndarray:
    """Acquisitions of one image on the full grid, by the header alone; averages are summed."""
    encoding = header_of(path).encoding[0]
    size = encoding.encodedSpace.matrixSize
    kspace = np.zeros((acquisitions[0].active_channels, size.y, size.x), np.complex64)
    first = size.y // 2 - encoding.encodingLimits.kspace_encoding_step_1.center
    for acquisition in acquisitions:
        start = size.x // 2 - acquisition.center_sample
        backwards = is_set(acquisition, ismrmrd.ACQ_IS_REVERSE)
        samples = acquisition.data[:, ::-1] if backwards else acquisition.data
        line = first + acquisition.idx.kspace_encode_step_1
        kspace[:, line, start : start + acquisition.number_of_samples] += samples
    return kspace


def test_reads_back_with_the_expected_counts(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    options, acquisitions = simulate(path, averages=2, repetitions=2, contrasts=2)
    lines = int((options.sampled_lines | options.calibrated_lines).sum())
    assert len(acquisitions) == 1 + 2 * 2 * 2 * 2 * lines
    assert [a.scan_counter for a in acquisitions] == list(range(len(acquisitions)))
    imaging = acquisitions[1:]
    for name, values in [("slice", 2), ("average", 2), ("repetition", 2), ("contrast", 2)]:
        assert {getattr(a.idx, name) for a in imaging} == set(range(values))
    for acquisition in imaging:
        assert acquisition.active_channels == 4
        assert acquisition.number_of_samples == 128
        assert acquisition.center_sample == 64
        assert acquisition.sample_time_us == 5.0
        assert [acquisition.isChannelActive(coil) for coil in range(5)] == [1, 1, 1, 1, 0]


def test_header(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    simulate(path, matrix=(48, 64), fov_mm=(180, 240), averages=3, contrasts=2)
    header = header_of(path)
    encoding = header.encoding[0]
    encoded, recon = encoding.encodedSpace, encoding.reconSpace
    assert (encoded.matrixSize.x, encoded.matrixSize.y, encoded.matrixSize.z) == (128, 48, 1)
    assert (recon.matrixSize.x, recon.matrixSize.y, recon.matrixSize.z) == (64, 48, 1)
    assert (encoded.fieldOfView_mm.x, encoded.fieldOfView_mm.y) == (480, 180)
    assert (recon.fieldOfView_mm.x, recon.fieldOfView_mm.y) == (240, 180)
    assert recon.fieldOfView_mm.z == 4
    limits = encoding.encodingLimits
    line = limits.kspace_encoding_step_1
    assert (line.minimum, line.maximum, line.center) == (0, 47, 24)
    assert (limits.average.maximum, limits.contrast.maximum, limits.slice.maximum) == (2, 1, 1)
    assert encoding.parallelImaging.accelerationFactor.kspace_encoding_step_1 == 2
    assert encoding.parallelImaging.calibrationMode.value == "embedded"
    assert encoding.trajectory.value == "cartesian"
    assert len(header.sequenceParameters.TE) == 2
    assert header.acquisitionSystemInformation.receiverChannels == 4
    assert header.subjectInformation is None
    assert header.version is None


def test_flags_of_an_accelerated_scan(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    options, (noise, *imaging) = simulate(path, slices=3, averages=2, repetitions=2)
    assert is_set(noise, ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
    assert noise.sample_time_us == NOISE_DWELL_US
    for acquisition in imaging:
        line = acquisition.idx.kspace_encode_step_1
        sampled, calibrated = options.sampled_lines[line], options.calibrated_lines[line]
        assert sampled or calibrated
        both = ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING
        assert is_set(acquisition, both) == (sampled and calibrated)
        only = ismrmrd.ACQ_IS_PARALLEL_CALIBRATION
        assert is_set(acquisition, only) == (calibrated and not sampled)
        assert not is_set(acquisition, ismrmrd.ACQ_IS_NOISE_MEASUREMENT)

    # One first and one last line in each slice of each repetition, in their places.
    groups: dict[tuple[int, int], list[Any]] = {}
    for acquisition in imaging:
        key = (acquisition.idx.repetition, acquisition.idx.slice)
        groups.setdefault(key, []).append(acquisition)
    assert list(groups) == [(r, s) for r in range(2) for s in (0, 2, 1)]
    for lines in groups.values():
        begins = [is_set(a, ismrmrd.ACQ_FIRST_IN_SLICE) for a in lines]
        ends = [is_set(a, ismrmrd.ACQ_LAST_IN_SLICE) for a in lines]
        assert begins == [True] + [False] * (len(lines) - 1)
        assert ends == [False] * (len(lines) - 1) + [True]
        for average in range(2):
            part = [a for a in lines if a.idx.average == average]
            for flag in (ismrmrd.ACQ_LAST_IN_ENCODE_STEP1, ismrmrd.ACQ_LAST_IN_AVERAGE):
                assert [is_set(a, flag) for a in part] == [False] * (len(part) - 1) + [True]
    last = [is_set(a, ismrmrd.ACQ_LAST_IN_REPETITION) for a in imaging]
    assert np.flatnonzero(last).tolist() == [len(imaging) // 2 - 1, len(imaging) - 1]
    ended = [is_set(a, ismrmrd.ACQ_LAST_IN_MEASUREMENT) for a in imaging]
    assert np.flatnonzero(ended).tolist() == [len(imaging) - 1]


def test_contrasts_share_an_excitation_and_end_once(tmp_path: Path) -> None:
    _, (_, *imaging) = simulate(tmp_path / "scan.h5", contrasts=2)
    assert [a.idx.contrast for a in imaging[:4]] == [0, 1, 0, 1]
    last = [a for a in imaging if is_set(a, ismrmrd.ACQ_LAST_IN_SLICE)]
    assert [(a.idx.slice, a.idx.contrast) for a in last] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for flag in (ismrmrd.ACQ_LAST_IN_REPETITION, ismrmrd.ACQ_LAST_IN_MEASUREMENT):
        assert [n for n, a in enumerate(imaging) if is_set(a, flag)] == [len(imaging) - 1]
    opening = [is_set(a, ismrmrd.ACQ_FIRST_IN_REPETITION) for a in imaging]
    assert np.flatnonzero(opening).tolist() == [0]


def test_separate_calibration_comes_first_and_once(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    options, (_, *rest) = simulate(path, calibration_mode="separate", repetitions=2, slices=1)
    flag = ismrmrd.ACQ_IS_PARALLEL_CALIBRATION
    calibration = [is_set(a, flag) for a in rest]
    assert calibration == [True] * 16 + [False] * (len(rest) - 16)
    assert sum(not c for c in calibration) == 2 * options.sampled_lines.sum()
    found = [a.idx.kspace_encode_step_1 for a in rest[:16]]
    assert found == np.flatnonzero(options.calibrated_lines).tolist()
    both = ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING
    assert not any(is_set(a, both) for a in rest)
    assert header_of(path).encoding[0].parallelImaging.calibrationMode.value == "separate"


def test_fully_sampled_scan_without_noise_gives_the_truth(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    _, acquisitions = simulate(path, matrix=(48, 65), acceleration=1, **QUIET)
    for number, expected in enumerate(truth_of(path)):
        kspace = place(path, [a for a in acquisitions if a.idx.slice == number])
        images = np.fft.ifftn(np.fft.ifftshift(kspace, (1, 2)), axes=(1, 2), norm="ortho")
        images = np.fft.fftshift(images, (1, 2))
        images = images[:, :, 65 - 32 : 65 + 33]  # the middle of the oversampled readout
        found = np.sqrt(np.sum(np.abs(images) ** 2, axis=0))
        assert relative_error(found, expected) < 1e-5


def test_backwards_echoes_and_averages_give_the_truth(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    changes = {"bipolar": True, "averages": 2, "contrasts": 2, "slices": 1}
    _, acquisitions = simulate(path, acceleration=1, **changes, **QUIET)
    backwards = {a.idx.contrast for a in acquisitions if is_set(a, ismrmrd.ACQ_IS_REVERSE)}
    assert backwards == {1}
    for contrast, name in enumerate(["images", "images_1"]):
        kspace = place(path, [a for a in acquisitions if a.idx.contrast == contrast]) / 2
        found = root_sum_of_squares(kspace, (64, 64))
        assert relative_error(found, truth_of(path, name)[0]) < 1e-5


def test_every_second_line_is_backwards_with_one_echo(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    _, acquisitions = simulate(path, acceleration=1, bipolar=True, slices=1, **QUIET)
    backwards = [is_set(a, ismrmrd.ACQ_IS_REVERSE) for a in acquisitions]
    assert backwards == [False, True] * 32
    found = root_sum_of_squares(place(path, acquisitions), (64, 64))
    assert relative_error(found, truth_of(path)[0]) < 1e-5


def test_partial_fourier_and_partial_echo_leave_out_the_early_part(tmp_path: Path) -> None:
    full, part = tmp_path / "full.h5", tmp_path / "part.h5"
    _, all_lines = simulate(full, acceleration=1, slices=1, **QUIET)
    changes = {"partial_fourier": 0.75, "partial_echo": 0.8}
    _, fewer = simulate(part, acceleration=1, slices=1, **changes, **QUIET)
    limit = header_of(part).encoding[0].encodingLimits.kspace_encoding_step_1
    assert (limit.minimum, limit.maximum, limit.center) == (0, 47, 16)
    assert len(fewer) == 48
    assert {(a.number_of_samples, a.center_sample) for a in fewer} == {(102, 38)}
    whole, found = place(full, all_lines), place(part, fewer)
    np.testing.assert_array_equal(found[:, 16:, 26:], whole[:, 16:, 26:])
    assert not found[:, :16].any()
    assert not found[:, :, :26].any()
    np.testing.assert_array_equal(truth_of(full), truth_of(part))


def test_noise_has_the_stated_level_and_covariance(tmp_path: Path) -> None:
    quiet, noisy = tmp_path / "quiet.h5", tmp_path / "noisy.h5"
    changes = {"slices": 1, "acceleration": 1, "averages": 4}
    _, clean = simulate(quiet, **changes, **QUIET)
    options = small_options(**changes, snr=20.0)
    scan = simulate_scan(noisy, options)
    noise_scan, *imaging = read_acquisitions(noisy)
    difference = np.stack([n.data - c.data for n, c in zip(imaging, clean, strict=True)], axis=1)
    noise = difference.reshape(4, -1)
    assert noise.real.std() == pytest.approx(scan.noise_sigma, rel=0.02)
    reference = truth_of(noisy, "snr_reference")
    assert scan.noise_sigma == pytest.approx(reference / 20)
    measured = noise @ noise.conj().T / noise.shape[1]
    covariance = truth_of(noisy, "noise_covariance")
    assert relative_error(measured, covariance) < 0.03
    assert np.abs(covariance[0, 1]) > 0.02 * np.abs(covariance[0, 0])

    # The noise scan: less power by the longer dwell time and by the receiver's filter.
    power = np.mean(np.abs(noise_scan.data) ** 2)
    expected = np.trace(covariance).real / 4 * (5.0 / NOISE_DWELL_US) * NOISE_BANDWIDTH
    assert power == pytest.approx(expected, rel=0.1)


def test_positions_directions_and_times(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    changes = {"slices": 3, "tilt_deg": (20.0, 0.0, 0.0), "centre_mm": (5.0, -3.0, 10.0)}
    _, (_, *imaging) = simulate(path, thickness_mm=3.0, gap_mm=1.0, **changes)
    normal = np.array([0.0, -np.sin(np.deg2rad(20)), np.cos(np.deg2rad(20))])
    for acquisition in imaging:
        read, phase, along = acquisition.read_dir, acquisition.phase_dir, acquisition.slice_dir
        np.testing.assert_allclose(np.cross(read, phase), along, atol=1e-6)
        np.testing.assert_allclose(along, normal, atol=1e-6)
        expected = np.array([5.0, -3.0, 10.0]) + 4.0 * (acquisition.idx.slice - 1) * normal
        np.testing.assert_allclose(acquisition.position, expected, atol=1e-4)
    stamps = np.array([a.acquisition_time_stamp for a in imaging])
    assert set(np.diff(stamps)) == {4}  # 10 ms in ticks of 2.5 ms
    assert stamps[0] == 10 * 3600 * 400 + 4


def test_waveforms_cover_the_scan(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    _, acquisitions = simulate(path, waveforms=True)
    with ismrmrd.Dataset(str(path), "dataset", mode="r") as dataset:
        found = [dataset.read_waveform(n) for n in range(dataset.number_of_waveforms())]
    ecg = np.concatenate([w.data for w in found], axis=1)
    assert found[0].time_stamp == acquisitions[0].acquisition_time_stamp
    end = found[-1].time_stamp + found[-1].number_of_samples
    assert end >= acquisitions[-1].acquisition_time_stamp
    beats = np.flatnonzero(ecg[4])
    assert set(np.diff(beats)) <= {360}  # 900 ms
    assert ecg[0].argmax() in beats
    assert header_of(path).waveformInformation[0].waveformType.value == "ecg"
    late = acquisitions[-1]
    since = late.acquisition_time_stamp - found[0].time_stamp - beats[-1]
    assert late.physiology_time_stamp[0] == since % 360


def test_the_same_options_give_the_same_samples(tmp_path: Path) -> None:
    _, first = simulate(tmp_path / "1.h5", slices=1)
    _, second = simulate(tmp_path / "2.h5", slices=1)
    _, other = simulate(tmp_path / "3.h5", slices=1, seed=1)
    for a, b in zip(first, second, strict=True):
        assert a.getHead() == b.getHead()
        np.testing.assert_array_equal(a.data, b.data)
    assert relative_error(other[5].data, first[5].data) > 0.1


def test_existing_files_and_missing_folders_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match="exists already"):
        simulate_scan(path, small_options())
    assert path.read_text() == "mine"
    with pytest.raises(OutputError, match="no folder"):
        simulate_scan(tmp_path / "none" / "scan.h5", small_options())


def test_nothing_is_left_when_it_breaks_off(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_scan(tmp_path / "scan.h5", small_options(), progress=interrupt)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [1_000, 100_000])
def test_a_full_disk_is_told(size: int, tmp_path: Path) -> None:
    with no_file_larger_than(size), pytest.raises(OutputError, match=r"can't write .*scan\.h5"):
        simulate_scan(tmp_path / "scan.h5", small_options())
    assert not list(tmp_path.iterdir())


def test_debians_reconstruction_agrees(tmp_path: Path, ismrmrd_tools: Path) -> None:
    path = tmp_path / "scan.h5"
    changes = {"slices": 1, "acceleration": 1, "noise_scan": False, "snr": 200.0}
    simulate(path, **changes)
    copy = tmp_path / "copy.h5"
    shutil.copy(path, copy)
    program = ismrmrd_tools / "ismrmrd_recon_cartesian_2d"
    out = subprocess.run([program, copy], capture_output=True, text=True, timeout=60)
    assert out.returncode == 0, out.stderr
    with h5py.File(copy) as file:
        group = next(name for name in file["dataset"] if name not in ("xml", "data", "truth"))
        found = np.squeeze(file[f"dataset/{group}/data"][()]).astype(float)
    expected = truth_of(path)[0]
    assert found.shape == expected.shape
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9995
