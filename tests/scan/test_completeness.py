import logging

import pytest

from tests.scan.building import Scan, assemble, close, expected

NY = 16


def test_interrupted_scan_is_flushed_and_marked(caplog):
    scan = Scan.of()
    scan.lines(range(10), last=())
    with caplog.at_level(logging.WARNING):
        (made,) = assemble(scan)
    assert not made.complete
    assert made.missing_lines == 6
    assert "lacks 6 lines" in caplog.text


def test_a_lost_line_in_the_middle_is_noticed():
    scan = Scan.of(acceleration=(2, 1))
    scan.lines([0, 2, 6, 8, 10, 12, 14])
    (made,) = assemble(scan)
    assert (made.complete, made.missing_lines) == (False, 1)


def test_partial_fourier_with_a_last_flag_is_complete():
    scan = Scan.of()
    scan.lines(range(4, NY))
    (made,) = assemble(scan)
    assert made.complete
    close(made.kspace, expected(scan, range(4, NY)))


def test_irregular_undersampling_has_nothing_to_miss():
    scan = Scan.of(acceleration=(2, 1))
    scan.lines([0, 3, 5, 8, 9, 14])
    (made,) = assemble(scan)
    assert made.complete


def test_scans_with_last_flags_wait_for_them():
    # The regular lines of slice 0 are all there when slice 1 begins; calibration lines follow.
    scan = Scan.of(acceleration=(2, 1), mode="embedded")
    scan.lines(range(0, NY, 2), slice=2)
    scan.lines(range(0, NY, 2), last=(), slice=0)
    scan.lines(range(0, NY, 2), last=(), slice=1)
    for n in range(2):
        scan.lines([7, 9], last=(20, 8), slice=n, flags=1 << 19)
    slices = assemble(scan)
    assert [s.counters["slice"] for s in slices] == [2, 0, 1]
    assert [int(s.sampled.sum()) for s in slices] == [8, 10, 10]


@pytest.mark.parametrize("acceleration", [1, 3])
def test_lines_that_lack_partitions_within_a_slab_are_noticed(acceleration):
    """Undersampled at random in both directions, as for compressed sensing: aliased throughout."""
    scan = Scan.of(nz=8, acceleration=(acceleration, 1))
    for ky in range(NY):
        for kz in range(8):
            if (3 * ky + kz) % 4:
                scan.line(ky, kz=kz)
    slices = assemble(scan)
    assert [s.complete for s in slices] == [False] * 8
    assert slices[0].missing_lines >= 16


@pytest.mark.parametrize("acceleration", [1, 2])
def test_elliptical_scanning_lacks_nothing(acceleration):
    scan = Scan.of(nz=8, acceleration=(acceleration, 1))
    for kz in range(8):
        for ky in range(0, NY, acceleration):
            if ((ky - 8) / 8) ** 2 + ((kz - 4) / 4) ** 2 <= 1:
                scan.line(ky, kz=kz)
    scan.line(8, 25, kz=4)
    assert [s.missing_lines for s in assemble(scan)] == [0] * 8
