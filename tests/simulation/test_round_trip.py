"""The simulated scanner and the reader of scans understand each other, without noise to the bit."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.slices import Slice, SliceAssembler
from chpnet_stream.simulation.kspace import root_sum_of_squares
from chpnet_stream.simulation.scan import simulate_scan
from tests.helpers import read_acquisitions, relative_error, small_options


def assemble(path: Path) -> list[Slice]:
    with ScanFile(path) as scan:
        return list(SliceAssembler(scan.header).assemble(scan.acquisitions()))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bipolar": True},
        {"bipolar": True, "contrasts": 2, "averages": 2, "repetitions": 2},
        {"oversampling": 1},
        {"matrix": (48, 65), "fov_mm": (180.0, 220.0), "slices": 3},
    ],
)
def test_fully_sampled_slices_are_the_truth(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    options = small_options(acceleration=1, snr=None, **changes)
    simulate_scan(path, options)
    found = assemble(path)
    assert len(found) == options.slices * options.contrasts * options.repetitions
    with h5py.File(path) as file:
        for part in found:
            contrast = part.counters["contrast"]
            name = "images" if contrast == 0 else f"images_{contrast}"
            expected = file[f"dataset/truth/{name}"][part.counters["slice"]]
            assert part.complete
            image = root_sum_of_squares(part.kspace, options.matrix)
            assert relative_error(image, expected) < 1e-6


@pytest.mark.parametrize("mode", ["embedded", "separate"])
def test_calibration_lines_arrive(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    options = small_options(calibration_mode=mode, partial_fourier=0.75, partial_echo=0.8)
    simulate_scan(path, options)
    for part in assemble(path):
        assert part.complete
        np.testing.assert_array_equal(part.calibrated, options.calibrated_lines)
        measured = part.sampled > 0
        assert (measured & options.sampled_lines).sum() == options.sampled_lines.sum()
        assert not measured[: options.first_line].any()
        assert part.echo_samples == (options.first_sample // 2, 64)


def test_the_noise_scan_whitens_the_noise_of_the_image(tmp_path: Path) -> None:
    noisy, clean = tmp_path / "noisy.h5", tmp_path / "clean.h5"
    changes = {"slices": 1, "acceleration": 1, "averages": 4, "snr": 20.0}
    simulate_scan(noisy, small_options(**changes))
    simulate_scan(clean, small_options(**(changes | {"snr": None})))
    noise_scan, *imaging = read_acquisitions(noisy)
    scan = NoiseScan()
    scan.add(noise_scan)
    whitening = scan.whitening(imaging[0].sample_time_us)
    quiet = read_acquisitions(clean)[1:]
    pairs = zip(imaging, quiet, strict=True)
    noise = np.concatenate([with_noise.data - without.data for with_noise, without in pairs], 1)
    white = whitening @ noise
    covariance = white @ white.conj().T / white.shape[1]
    assert relative_error(covariance, np.eye(4)) < 0.1


def test_the_shared_small_scan_is_what_it_says(small_scan: Path) -> None:
    found = assemble(small_scan)
    assert [part.counters["slice"] for part in found] == [0, 1]
    for part in found:
        assert part.kspace.shape == (4, 64, 64)
        assert part.calibrated.sum() == 16
        assert (part.sampled > 0).sum() == 32 + 8
