"""Undersampling a measured slice afterwards."""

from pathlib import Path

import numpy as np
import pytest

from chpnet_stream.errors import InconsistentScanError
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.scan.slices import Slice, SliceAssembler
from chpnet_stream.scan.undersampling import is_fully_sampled, undersample
from chpnet_stream.simulation.scan import simulate_scan
from tests.helpers import small_options


def slices_of(path: Path) -> list[Slice]:
    with ScanFile(path) as scan:
        return list(SliceAssembler(scan.header).assemble(scan.acquisitions()))


@pytest.fixture
def full(tmp_path: Path) -> Slice:
    simulate_scan(tmp_path / "scan.h5", small_options(acceleration=1, slices=1, averages=2))
    return slices_of(tmp_path / "scan.h5")[0]


@pytest.mark.parametrize(("acceleration", "width"), [(2, 24), (4, 16), (5, 8), (3, 100)])
def test_the_right_lines_are_kept_unchanged(full: Slice, acceleration: int, width: int) -> None:
    assert is_fully_sampled(full)
    before = full.kspace.copy()
    made = undersample(full, acceleration, width)
    lines = np.arange(64)
    centre = (lines >= 32 - width // 2) & (lines < 32 - width // 2 + width)
    kept = (lines % acceleration == 0) | centre
    np.testing.assert_array_equal(made.sampled, np.where(kept, 2, 0))
    np.testing.assert_array_equal(made.calibrated, centre)
    np.testing.assert_array_equal(made.kspace, full.kspace * kept[:, None])
    np.testing.assert_array_equal(made.calibration, full.kspace * centre[:, None])
    np.testing.assert_array_equal(full.kspace, before)
    assert made.counters == full.counters
    assert made.calibration_version != full.calibration_version


def test_what_is_undersampled_already_is_refused(small_scan: Path) -> None:
    data = slices_of(small_scan)[0]
    assert not is_fully_sampled(data)
    with pytest.raises(InconsistentScanError, match=r"slice 0 has 40 of 64 lines.*--undersample"):
        undersample(data, 4)


@pytest.mark.parametrize(
    ("first", "last", "gap", "expected"),
    [(0, 64, None, True), (4, 64, None, True), (12, 64, None, False), (0, 64, 30, False)],
)
def test_what_counts_as_fully_sampled(
    full: Slice, first: int, last: int, gap: int | None, expected: bool
) -> None:
    full.sampled[:first] = 0
    full.sampled[last:] = 0
    if gap is not None:
        full.sampled[gap] = 0
    assert is_fully_sampled(full) is expected
    full.sampled[:] = 0
    assert not is_fully_sampled(full)
