import numpy as np
import pytest

from chpnet_stream.scan.calibration import RUNNING_MEAN
from chpnet_stream.scan.slices import SliceAssembler
from tests.scan.building import Scan, assemble, close, expected, numbers

NY = 16


def test_embedded_calibration_is_calibration_and_fills_the_image():
    scan = Scan.of(acceleration=(4, 1), mode="embedded")
    for ky in range(NY):
        flags = ((21,) if ky % 4 == 0 else (20,)) if 5 <= ky < 11 else ()
        if ky % 4 == 0 or flags:
            scan.line(ky, *flags, *((8,) if ky == 12 else ()))
    (made,) = assemble(scan)
    assert np.flatnonzero(made.sampled).tolist() == [0, 4, *range(5, 11), 12]
    assert np.flatnonzero(made.calibrated).tolist() == list(range(5, 11))
    close(made.calibration, expected(scan, range(5, 11)))
    close(made.kspace, expected(scan, [0, 4, *range(5, 11), 12]))
    assert made.complete


def test_calibration_lines_do_not_add_to_image_lines_measured_anyway():
    scan = Scan.of()
    scan.line(8, 20, scale=100)
    scan.lines(range(NY))
    (made,) = assemble(scan)
    assert made.sampled.tolist() == [1] * NY
    close(made.kspace, expected(scan, range(NY)))
    close(made.calibration, 100 * expected(scan, [8]))


def test_embedded_calibration_of_the_first_repetition_serves_the_later_ones():
    scan = Scan.of(acceleration=(2, 1), mode="embedded")
    scan.lines(range(5, 11, 2), last=(20,), flags=1 << 19)
    for n in range(3):
        scan.lines(range(0, NY, 2), repetition=n)
    slices = assemble(scan)
    assert [int(s.calibrated.sum()) for s in slices] == [3, 3, 3]
    assert [int(s.sampled.sum()) for s in slices] == [11, 8, 8]
    assert len({s.calibration_version for s in slices}) == 1


@pytest.mark.parametrize("mode", ["separate", "external", "other"])
def test_separate_calibration_is_for_maps_only_and_stays(mode):
    scan = Scan.of(acceleration=(2, 1), mode=mode, limits={"slice": (0, 1, 0)})
    for n in range(2):
        for ky in range(4, 12):
            scan.line(ky, 20, *((8,) if ky == 11 else ()), slice=n, set=1, scale=10 * (n + 1))
    for repetition in range(2):
        for n in range(2):
            scan.lines(range(0, NY, 2), slice=n, repetition=repetition)
    slices = assemble(scan)
    assert numbers(slices, "slice", "repetition") == [(0, 0), (1, 0), (0, 1), (1, 1)]
    for made in slices:
        n = made.counters["slice"]
        close(made.kspace, expected(scan, range(0, NY, 2)))
        close(made.calibration, 10 * (n + 1) * expected(scan, range(4, 12)))
    assert len({s.calibration_version for s in slices}) == 2


def test_reference_lines_under_other_counters_make_no_image():
    scan = Scan.of(acceleration=(2, 1))  # mode not stated
    for ky in range(4, 12):
        scan.line(ky, 20, *((8,) if ky == 11 else ()), repetition=7)
    scan.lines(range(0, NY, 2), repetition=0)
    slices = assemble(scan)
    assert numbers(slices, "repetition") == [(0,)]
    assert np.flatnonzero(slices[0].calibrated).tolist() == list(range(4, 12))


def test_reference_lines_of_another_set_serve_the_same_repetition():
    scan = Scan.of(acceleration=(2, 1), limits={"slice": (0, 1, 0)})  # mode not stated
    for n in range(2):
        scan.lines(range(4, 12), last=(8,), slice=n, set=1, flags=1 << 19, scale=n + 1)
    for n in range(2):
        scan.lines(range(0, NY, 2), slice=n)
    slices = assemble(scan)
    assert numbers(slices, "slice", "set") == [(0, 0), (1, 0)]
    for n, made in enumerate(slices):
        assert np.flatnonzero(made.sampled).tolist() == list(range(0, NY, 2))
        assert np.flatnonzero(made.calibrated).tolist() == list(range(4, 12))
        close(made.calibration, (n + 1) * expected(scan, range(4, 12)))


def test_interleaved_calibration_waits_for_a_covered_centre():
    scan = Scan.of(acceleration=(2, 1), mode="interleaved")
    for n in range(4):
        scan.lines(range(n % 2, NY, 2), repetition=n, scale=n + 1)
    assembler = SliceAssembler(scan.header)
    given = [len(assembler.feed(a)) for a in scan.made]
    assert given == [0] * 15 + [2] + [0] * 7 + [1] + [0] * 7 + [1]
    slices = assemble(scan)
    assert numbers(slices, "repetition") == [(0,), (1,), (2,), (3,)]
    for made in slices[:2]:
        assert made.calibrated.all()
        close(made.calibration[:, ::2], expected(scan, range(NY))[:, ::2])
        close(made.calibration[:, 1::2], 2 * expected(scan, range(NY))[:, 1::2])
    # After four repetitions even lines are the mean of scales 1 and 3, odd ones of 2 and 4.
    close(slices[3].calibration[:, ::2], 2 * expected(scan, range(NY))[:, ::2])
    close(slices[3].calibration[:, 1::2], 3 * expected(scan, range(NY))[:, 1::2])
    close(slices[3].kspace, 4 * expected(scan, range(1, NY, 2)))


def test_interleaved_slices_that_wait_come_out_at_the_end():
    scan = Scan.of(acceleration=(4, 1), mode="interleaved")
    scan.lines(range(0, NY, 4))
    assembler = SliceAssembler(scan.header)
    assert [len(assembler.feed(a)) for a in scan.made] == [0] * 4
    assert assembler.open_slices == 1
    assert len(assembler.flush()) == 1


def test_image_lines_that_calibrate_too_do_not_replace_separate_calibration():
    scan = Scan.of(acceleration=(2, 1), mode="separate")
    for ky in range(4, 12):
        scan.line(ky, 20, scale=10)
    for n in range(2):
        for ky in range(0, NY, 2):
            scan.line(ky, *((21,) if 6 <= ky < 10 else ()), *((8,) * (ky == 14)), repetition=n)
    slices = assemble(scan)
    assert len(slices) == 2
    for made in slices:
        close(made.calibration, 10 * expected(scan, range(4, 12)))


def test_without_separate_lines_those_that_are_image_data_too_calibrate():
    scan = Scan.of(mode="other")
    for ky in range(NY):
        scan.line(ky, *((21,) if 6 <= ky < 10 else ()), *((8,) * (ky == 15)))
    (made,) = assemble(scan)
    close(made.calibration, expected(scan, range(6, 10)))


def test_header_comes_from_image_data_where_there_is_any():
    scan = Scan.of(acceleration=(4, 1), mode="embedded", limits={"slice": (0, 0, 0)})
    scan.line(8, 20)
    scan.lines([2, 6, 10, 14])
    (made,) = assemble(scan)
    assert made.head.idx.kspace_encode_step_1 in (6, 10)
    assert not made.head.is_flag_set(20)


def test_mean_of_interleaved_lines_forgets_slowly():
    scan = Scan.of(nx=4, ny=4, acceleration=(2, 1), mode="interleaved")
    old = scan.lines(range(4), scale=1)
    new = scan.lines(range(4), scale=5)
    assembler = SliceAssembler(scan.header)
    means, count = [], 0
    for n in range(300):
        for line in old if n < 100 else new:
            line.idx.repetition = n
            for made in assembler.feed(line):
                means.append(np.vdot(wanted_of(scan), made.calibration).real)
                count += 1
    norm = np.linalg.norm(wanted_of(scan)) ** 2
    assert count == 300
    assert means[99] / norm == pytest.approx(1, rel=1e-4)
    assert means[100] / norm == pytest.approx(1 + 4 / RUNNING_MEAN, rel=1e-3)
    assert means[299] / norm == pytest.approx(5, rel=0.01)


def wanted_of(scan):
    return expected(scan, range(4))
