import logging

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
