import logging

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.errors import BadSamplesError, InconsistentScanError, UnsupportedScanError
from chpnet_stream.mrd.header import ScanHeader
from chpnet_stream.scan.readout import centred_ifft
from chpnet_stream.scan.slices import SliceAssembler
from tests.scan.building import Scan, assemble, close, cropped, expected, header_xml, numbers

NX, NY = 32, 16


def test_one_fully_sampled_slice():
    scan = Scan.of()
    scan.lines(range(NY), last=(8, 25))
    (made,) = assemble(scan)
    close(made.kspace, expected(scan, range(NY)))
    assert made.kspace.dtype == np.complex64
    assert made.sampled.tolist() == [1] * NY
    assert made.calibration is None
    assert not made.calibrated.any()
    assert made.complete
    assert made.missing_lines == 0
    assert made.head.idx.kspace_encode_step_1 == 8
    assert (made.first_time_stamp, made.last_time_stamp) == (100, 115)
    assert made.echo_samples == (0, NX)
    assert made.edges == (1 << 7) | (1 << 24)


def test_a_slice_is_given_out_with_its_last_line_not_later():
    scan = Scan.of()
    scan.lines(range(NY))
    scan.lines(range(NY), slice=1)
    assembler = SliceAssembler(scan.header)
    given = [len(assembler.feed(a, received_at=float(n))) for n, a in enumerate(scan.made)]
    assert given == [0] * 15 + [1] + [0] * 15 + [1]
    assert assembler.open_slices == 0
    assert assembler.flush() == []


def test_received_at_is_that_of_the_last_readout():
    scan = Scan.of()
    scan.lines(range(NY))
    assembler = SliceAssembler(scan.header)
    *_, last = [assembler.feed(a, received_at=float(n)) for n, a in enumerate(scan.made)]
    assert last[0].received_at == 15.0


def test_interleaved_slices():
    scan = Scan.of(limits={"slice": (0, 2, 0)})
    for ky in range(NY):
        for n in range(3):
            scan.line(ky, *((8,) if ky == NY - 1 else ()), slice=n, scale=n + 1)
    slices = assemble(scan)
    assert numbers(slices, "slice") == [(0,), (1,), (2,)]
    for n, made in enumerate(slices):
        close(made.kspace, (n + 1) * expected(scan, range(NY)))


@pytest.mark.parametrize("name", ["contrast", "phase", "repetition", "set"])
def test_other_counters_make_slices_of_their_own(name):
    scan = Scan.of()
    for value in (0, 1, 5):
        scan.lines(range(NY), **{name: value}, scale=value + 1)
    slices = assemble(scan)
    assert numbers(slices, name) == [(0,), (1,), (5,)]
    for made, value in zip(slices, (0, 1, 5), strict=True):
        close(made.kspace, (value + 1) * expected(scan, range(NY)))


def test_contrasts_measured_line_by_line():
    scan = Scan.of()
    for ky in range(NY):
        for echo in range(2):
            scan.line(ky, *((8,) if ky == NY - 1 else ()), contrast=echo)
    assert numbers(assemble(scan), "contrast") == [(0,), (1,)]


def test_the_last_echo_may_have_the_last_flag_for_all():
    scan = Scan.of(limits={"slice": (0, 1, 0), "contrast": (0, 2, 0)})
    for n in range(2):
        for ky in range(NY):
            for echo in range(3):
                last = (8,) if (ky, echo) == (NY - 1, 2) else ()
                scan.line(ky, *last, slice=n, contrast=echo)
    assembler = SliceAssembler(scan.header)
    given = [assembler.feed(a) for a in scan.made]
    assert [len(g) for g in given] == ([0] * (3 * NY - 1) + [3]) * 2
    for n in range(2):
        made = given[(n + 1) * 3 * NY - 1]
        assert numbers(made, "slice", "contrast") == [(n, 0), (n, 1), (n, 2)]
        assert all(s.complete for s in made)


@pytest.mark.parametrize("flagged", [range(4), range(1)])
def test_a_whole_echo_train_may_have_the_last_flag(flagged):
    """Trains of 4 lines, of 2 slices in turn; all lines of the last train have it, or its first."""
    scan = Scan.of(limits={"slice": (0, 1, 0)})
    for train in range(4):
        for n in range(2):
            for echo in range(4):
                last = (8,) if train == 3 and echo in flagged else ()
                scan.line(train + 4 * echo, *last, slice=n, scale=n + 1)
    assembler = SliceAssembler(scan.header)
    given = [(at, s) for at, a in enumerate(scan.made) for s in assembler.feed(a)]
    assert [(at, s.counters["slice"]) for at, s in given] == [(27, 0), (31, 1)]
    for n, (_, made) in enumerate(given):
        assert made.complete
        close(made.kspace, (n + 1) * expected(scan, range(NY)))


def test_a_slice_with_a_lost_line_waits_for_the_next_line_only():
    scan = Scan.of(limits={"slice": (0, 1, 0)})
    scan.lines([ky for ky in range(NY) if ky != 5])
    scan.lines(range(NY), slice=1)
    scan.lines([ky for ky in range(NY) if ky != 5], repetition=1)
    assembler = SliceAssembler(scan.header)
    given = [(at, s) for at, a in enumerate(scan.made) for s in assembler.feed(a)]
    # Nothing came behind the first flag: the next ones are believed.
    assert [(at, s.missing_lines) for at, s in given] == [(15, 1), (30, 0), (45, 1)]


def test_a_last_flag_is_not_that_of_a_set_with_other_lines():
    """The reference lines of an inversion recovery are fewer, and end before the others."""
    scan = Scan.of(limits={"set": (0, 1, 0)})
    for ky in range(NY):
        scan.line(ky, *((8,) if ky == NY - 1 else ()))
        if 4 <= ky < 12:
            scan.line(ky, *((8,) if ky == 11 else ()), set=1)
    assembler = SliceAssembler(scan.header)
    given = [(n, s) for n, a in enumerate(scan.made) for s in assembler.feed(a)]
    assert [(n, s.counters["set"]) for n, s in given] == [(19, 1), (23, 0)]
    assert given[1][1].sampled.tolist() == [1] * NY


def test_last_flags_of_separate_calibration_are_not_those_of_the_images():
    scan = Scan.of(acceleration=(2, 1), mode="separate")
    for n in range(2):
        scan.lines(range(4, 12), last=(8,), slice=n, flags=1 << 19)
    for n in range(2):
        scan.lines(range(0, NY, 2), last=(), slice=n)
    assembler = SliceAssembler(scan.header)
    assert [n for n, a in enumerate(scan.made) for _ in assembler.feed(a)] == [24]


def test_averages_are_summed_and_divided_by_their_count():
    scan = Scan.of(limits={"average": (0, 2, 0)})
    for n in range(3):
        scan.lines(range(NY), average=n, scale=n)  # last-in-slice comes in each average
    (made,) = assemble(scan)
    assert made.sampled.tolist() == [3] * NY
    assert made.counters["average"] == 2
    close(made.kspace, expected(scan, range(NY)))


def test_averages_measured_line_by_line():
    scan = Scan.of(limits={"average": (0, 1, 0)})
    for ky in range(NY):
        for n in range(2):
            scan.line(ky, *((8,) if (ky, n) == (NY - 1, 1) else ()), average=n, scale=2 * n)
    (made,) = assemble(scan)
    close(made.kspace, expected(scan, range(NY)))


def test_lines_measured_twice_count_twice():
    scan = Scan.of()
    scan.line(3, scale=3)
    scan.lines(range(NY))
    (made,) = assemble(scan)
    assert made.sampled.tolist() == [1, 1, 1, 2] + [1] * 12
    wanted = expected(scan, range(NY))
    wanted[:, 3] *= 2
    close(made.kspace, wanted)


def test_missing_last_flag_ends_with_the_next_repetition():
    scan = Scan.of()
    for n in range(3):
        scan.lines(range(NY), last=(), repetition=n)
    assembler = SliceAssembler(scan.header)
    given = [n for n, a in enumerate(scan.made) for _ in assembler.feed(a)]
    assert given == [16, 32]
    (last,) = assembler.flush()
    assert last.counters["repetition"] == 2
    assert last.complete


def test_scan_without_any_last_flag_ends_slices_that_have_all_lines():
    scan = Scan.of(acceleration=(2, 1))
    for n in range(3):
        scan.lines(range(0, NY, 2), last=(), slice=n)
    assembler = SliceAssembler(scan.header)
    given = [n for n, a in enumerate(scan.made) for _ in assembler.feed(a)]
    assert given == [8, 16]
    assert [s.complete for s in assembler.flush()] == [True]


def test_last_in_repetition_ends_all_slices_of_it():
    scan = Scan.of()
    for ky in range(NY):
        for n in range(2):
            scan.line(ky, *((14,) if (ky, n) == (NY - 1, 1) else ()), slice=n)
    assembler = SliceAssembler(scan.header)
    assert [len(assembler.feed(a)) for a in scan.made] == [0] * 31 + [2]


def test_lines_are_placed_by_the_centre_of_the_limits():
    scan = Scan.of(limits={"kspace_encoding_step_1": (0, 10, 5)})
    scan.lines(range(11))
    (made,) = assemble(scan)
    assert np.flatnonzero(made.sampled).tolist() == list(range(3, 14))
    assert made.head.idx.kspace_encode_step_1 == 5
    close(made.kspace, expected(scan, range(3, 14)))


@pytest.mark.parametrize("centre", [NY // 2 - 1, NY // 2, NY // 2 + 1])
def test_a_centre_that_is_one_off_costs_no_line(centre):
    """(0 + 15) // 2 for lines 0 to 15: all of them are there, and where they were."""
    scan = Scan.of(limits={"kspace_encoding_step_1": (0, NY - 1, centre)})
    for ky in range(NY):
        scan.line(ky, *((8,) if ky == NY - 1 else ()), data=scan.kspace[:, 0, ky])
    (made,) = assemble(scan)
    assert made.sampled.tolist() == [1] * NY
    assert made.missing_lines == 0
    close(made.kspace, expected(scan, range(NY)))


def test_a_centre_that_fits_is_believed():
    """Lines 0 to 14 of 16 may be partial Fourier by one line, on either side."""
    for centre, rows in ((7, range(1, 16)), (8, range(15))):
        scan = Scan.of(limits={"kspace_encoding_step_1": (0, NY - 2, centre)})
        scan.lines(range(NY - 1))
        (made,) = assemble(scan)
        assert np.flatnonzero(made.sampled).tolist() == list(rows)


def test_reversed_and_asymmetric_readouts():
    scan = Scan.of()
    for ky in range(NY):
        data = scan.kspace[:, 0, ky, 24:]
        if ky % 2:
            data = data[:, ::-1]
        scan.line(ky, *((22,) if ky % 2 else ()), data=data, center_sample=8)
    (made,) = assemble(scan)
    kspace = scan.kspace[:, 0].copy()
    kspace[..., :24] = 0
    close(made.kspace, cropped(kspace, NX))
    assert made.echo_samples == (12, NX)


def test_three_dimensions_become_partitions():
    scan = Scan.of(nz=4)
    for kz in range(4):
        scan.lines(range(NY), kz=kz)  # last-in-slice in every partition
    assembler = SliceAssembler(scan.header)
    given = [assembler.feed(a) for a in scan.made]
    assert [len(g) for g in given] == [0] * 63 + [4]
    assert numbers(given[-1], "partition") == [(0,), (1,), (2,), (3,)]
    volume = centred_ifft(scan.kspace, axis=1)
    for z, made in enumerate(given[-1]):
        close(made.kspace, cropped(volume[:, z], NX))
        assert made.head.idx.kspace_encode_step_2 == 2
        assert made.complete


def test_only_the_last_partition_is_the_last_of_the_measurement():
    scan = Scan.of(nz=4)
    for kz in range(4):
        scan.lines(range(NY), kz=kz, last=(25,) if kz == 3 else ())
    assert [s.edges >> 24 & 1 for s in assemble(scan)] == [0, 0, 0, 1]


@pytest.mark.parametrize("flag", [(25,), (23, 25)])
def test_only_the_last_slice_is_the_last_of_the_measurement(flag):
    """The line that ends it may be of the first slice that is open, or a navigator."""
    scan = Scan.of()
    for n in range(3):
        scan.lines(range(NY - 1), last=(), slice=n)
    for n in (2, 1, 0):
        scan.line(NY - 1, *(flag if n == 0 and 23 not in flag else ()), slice=n)
    if 23 in flag:
        scan.line(8, *flag)
    slices = assemble(scan)
    assert numbers(slices, "slice") == [(0,), (1,), (2,)]
    assert [s.edges >> 24 & 1 for s in slices] == [0, 0, 1]


def test_three_dimensions_with_partitions_missing():
    scan = Scan.of(nz=4)
    for kz in range(3):
        scan.lines(range(NY), kz=kz)
    slices = assemble(scan)
    assert len(slices) == 4
    assert [s.missing_lines for s in slices] == [16] * 4


def test_a_2d_scan_whose_matrix_has_two_partitions_gives_one_image():
    """As a Fourier transform of one partition among two would give the same image twice."""
    scan = Scan.of()
    xml = scan.header.xml.replace(b"<z>1</z></matrixSize>", b"<z>2</z></matrixSize>")
    scan.header = ScanHeader.from_xml(xml)
    scan.lines(range(NY))
    (made,) = assemble(scan)
    close(made.kspace, expected(scan, range(NY)))
    scan.line(0, kspace_encode_step_2=1, slice=1)
    with pytest.raises(InconsistentScanError, match=r"step_2 = 1, but .* has 0 alone"):
        assemble(scan)


def test_what_is_no_image_data_is_counted_and_left_out():
    scan = Scan.of()
    for flag in (19, 23, 24, 26, 27, 28, 29, 30, 31):
        scan.line(8, flag, scale=1e3)
    scan.lines(range(NY))
    assembler = SliceAssembler(scan.header)
    (made,) = assembler.assemble(scan.made)
    close(made.kspace, expected(scan, range(NY)))
    assert assembler.counts["noise"] == 1
    assert assembler.counts["image"] == NY
    assert assembler.counts["ACQ_IS_NAVIGATION_DATA"] == 1
    assert assembler.counts["ACQ_IS_PHASECORR_DATA"] == 1
    assert assembler.counts["acquisitions"] == 9 + NY


def test_a_navigator_may_carry_the_last_flag():
    scan = Scan.of()
    scan.lines(range(NY), last=())
    scan.line(8, 23, 8)
    assembler = SliceAssembler(scan.header)
    assert [len(assembler.feed(a)) for a in scan.made] == [0] * 16 + [1]


def test_lines_outside_the_matrix_are_refused():
    scan = Scan.of()
    line = scan.line(3)
    line.idx.kspace_encode_step_1 = 16
    with pytest.raises(
        InconsistentScanError, match=r"kspace_encode_step_1 = 16 .* row 16, outside"
    ):
        assemble(scan)


def test_changing_coil_counts_are_refused():
    scan = Scan.of()
    scan.line(0)
    scan.line(1, data=scan.kspace[:2, 0, 1])
    with pytest.raises(InconsistentScanError, match=r"line 1\) has 2 coils, those before it 3"):
        assemble(scan)


def test_slices_that_no_memory_holds_are_refused_at_the_first_line():
    scan = Scan.of(coils=3)
    assembler = SliceAssembler(scan.header, max_slice_bytes=1000)
    with pytest.raises(UnsupportedScanError, match=r"a slice of 3 coils with 1 x 16 x \d+ samples"):
        assembler.feed(scan.line(3))


def test_noise_may_have_other_coils():
    scan = Scan.of()
    scan.line(0, 19, data=np.ones((7, 64)))
    scan.lines(range(NY))
    assert len(assemble(scan)) == 1


def test_bad_samples_are_refused():
    scan = Scan.of()
    scan.line(0)
    scan.line(1).data[0, 0] = np.nan
    with pytest.raises(BadSamplesError, match=r"slice 0, line 1\) has NaN"):
        assemble(scan)


def test_a_scan_that_cannot_be_done_is_refused_at_the_header():
    header = ScanHeader.from_xml(header_xml(trajectory="spiral"))
    with pytest.raises(UnsupportedScanError, match="spiral"):
        SliceAssembler(header)


def test_image_data_in_two_encoding_spaces_are_refused():
    scan = Scan.of(encodings=2)
    scan.line(0)
    scan.line(1, encoding_space_ref=1)
    with pytest.raises(UnsupportedScanError, match="encoding space 1, those before it of 0"):
        assemble(scan)


def test_an_encoding_space_that_is_not_in_the_header():
    scan = Scan.of()
    scan.line(0, encoding_space_ref=4)
    with pytest.raises(InconsistentScanError, match="encoding space 4, the header has 1"):
        assemble(scan)


def test_open_slices_are_bounded(caplog):
    scan = Scan.of()
    for n in range(10):
        scan.line(3, slice=n)
    assembler = SliceAssembler(scan.header, max_open=4)
    with caplog.at_level(logging.WARNING):
        given = [s for a in scan.made for s in assembler.feed(a)]
    assert numbers(given, "slice") == [(n,) for n in range(6)]
    assert not any(s.complete for s in given)
    assert assembler.open_slices == 4
    assert "at most 4" in caplog.text


def test_slices_that_the_header_promises_may_all_be_open():
    """A multi-echo scan of many slices, echo by echo and slice by slice in every line."""
    scan = Scan.of(nx=2, ny=2, coils=1, limits={"slice": (0, 24, 0), "contrast": (0, 11, 0)})
    for ky in range(2):
        for n in range(25):
            for echo in range(12):
                scan.line(ky, *((8,) if ky == 1 else ()), slice=n, contrast=echo)
    slices = assemble(scan)
    assert numbers(slices, "slice", "contrast") == [(n, e) for n in range(25) for e in range(12)]
    assert all(s.complete for s in slices)


def test_more_slices_at_the_same_time_than_may_be_open_are_refused():
    """Not thousands of images of one line each."""
    scan = Scan.of(limits={"slice": (0, 5, 0)})
    for ky in range(NY):
        for n in range(6):
            scan.line(ky, slice=n)
    with pytest.raises(UnsupportedScanError, match=r"slice 0 .* CHPNET_LIMITS=open_slices=\.\.\."):
        assemble(scan, max_open=4)


def test_memory_is_bounded_by_bytes_too():
    scan = Scan.of()
    for n in range(10):
        scan.line(3, slice=n)
    size = 3 * NY * NX * 8
    assembler = SliceAssembler(scan.header, max_open_bytes=3 * size)
    for a in scan.made:
        assembler.feed(a)
    assert assembler.open_slices <= 3


def test_nothing_grows_over_many_repetitions():
    scan = Scan.of(nx=4, ny=4)
    lines = scan.lines(range(4))
    assembler = SliceAssembler(scan.header)
    count = 0
    for n in range(2000):
        for line in lines:
            line.idx.repetition = n
            count += len(assembler.feed(line))
    assert count == 2000
    assert assembler.open_slices == 0


@pytest.mark.parametrize("coils", [0, 1025, 65535])
def test_no_coils_and_far_too_many_are_refused(coils):
    scan = Scan.of(nx=16, ny=16)
    first = ismrmrd.Acquisition()
    first.resize(1, coils)
    with pytest.raises(InconsistentScanError, match=f"has {coils:,} coils, expected 1 to 1,024"):
        SliceAssembler(scan.header).feed(first)


@pytest.mark.parametrize("scale", [1e16, 1e36])
def test_samples_that_no_image_can_hold_are_refused(scale):
    scan = Scan.of(nx=16, ny=16)
    assembler = SliceAssembler(scan.header)
    assert assembler.feed(scan.line(0, scale=1e10)) == []
    with pytest.raises(BadSamplesError, match=r"samples up to \de\+\d\d, expected .* below 1e\+15"):
        assembler.feed(scan.line(1, scale=scale))


@pytest.mark.parametrize("last", [(8, 14), (25,), (8, 25), (8, 14, 25)])
def test_each_slice_measured_in_turn_may_have_the_flags_of_the_last_one(last):
    scan = Scan.of(limits={"slice": (0, 2, 0)})
    for ky in range(NY):
        for n in range(3):
            scan.line(ky, *(last if ky == NY - 1 else ()), slice=n, scale=n + 1)
    slices = assemble(scan)
    assert numbers(slices, "slice") == [(0,), (1,), (2,)]
    for n, made in enumerate(slices):
        assert made.complete
        close(made.kspace, (n + 1) * expected(scan, range(NY)))
    assert [s.edges >> 24 & 1 for s in slices] == [0, 0, 1 if 25 in last else 0]


@pytest.mark.parametrize("last", [(25,), (8, 25)])
def test_all_echoes_of_the_last_excitation_may_end_the_measurement(last):
    scan = Scan.of(limits={"contrast": (0, 2, 0)})
    for ky in range(NY):
        for echo in range(3):
            scan.line(ky, *(last if ky == NY - 1 else ()), contrast=echo)
    assembler = SliceAssembler(scan.header)
    given = [(n, s) for n, a in enumerate(scan.made) for s in assembler.feed(a)]
    assert [(n, s.counters["contrast"]) for n, s in given] == [(45, 0), (46, 1), (47, 2)]
    assert all(s.complete for _, s in given)
    assert [s.edges >> 24 & 1 for _, s in given] == [0, 0, 1]
    assert assembler.flush() == []


@pytest.mark.parametrize("last", [(8,), (25,), (8, 14)])
def test_all_partitions_of_the_last_shot_may_have_the_last_flag(last):
    """Magnetisation-prepared: partitions in each shot, lines from shot to shot."""
    scan = Scan.of(nz=4)
    for ky in range(NY):
        for kz in range(4):
            scan.line(ky, *(last if ky == NY - 1 else ()), kz=kz)
    assembler = SliceAssembler(scan.header)
    given = [(n, s) for n, a in enumerate(scan.made) for s in assembler.feed(a)]
    assert [n for n, _ in given] == [63] * 4
    volume = centred_ifft(scan.kspace, axis=1)
    for z, (_, made) in enumerate(given):
        close(made.kspace, cropped(volume[:, z], NX))
    assert assembler.flush() == []


def test_last_flags_of_slice_and_repetition_in_every_partition():
    scan = Scan.of(nz=4)
    for kz in range(4):
        scan.lines(range(NY), kz=kz, last=(8, 14))
    assembler = SliceAssembler(scan.header)
    assert [len(assembler.feed(a)) for a in scan.made] == [0] * 63 + [4]


def test_an_echo_train_may_end_the_measurement_with_all_its_lines():
    scan = Scan.of()
    for train in range(4):
        for echo in range(4):
            scan.line(train + 4 * echo, *((8, 25) if train == 3 else ()))
    (made,) = assemble(scan)
    assert made.complete
    assert made.edges >> 24 & 1
    close(made.kspace, expected(scan, range(NY)))


def test_averages_in_turn_with_the_flags_of_slice_and_repetition():
    scan = Scan.of(limits={"slice": (0, 1, 0), "average": (0, 1, 0)})
    for ky in range(NY):
        for average in range(2):
            for n in range(2):
                last = (8, 14) if ky == NY - 1 else ()
                scan.line(ky, *last, slice=n, average=average)
    assert [s.sampled.tolist() for s in assemble(scan)] == [[2] * NY] * 2


def test_calibration_in_another_encoding_space_may_have_other_coils():
    scan = Scan.of(encodings=2)
    scan.line(8, 20, data=scan.kspace[:2, 0, 8], encoding_space_ref=1)
    scan.lines(range(NY))
    (made,) = assemble(scan)
    close(made.kspace, expected(scan, range(NY)))


@pytest.mark.parametrize("coils", [2, 3])
def test_the_images_of_the_second_encoding_space_may_come_behind_calibration_of_the_first(coils):
    scan = Scan.of(encodings=2)
    for ky in range(4, 12):
        scan.line(ky, 20, data=scan.kspace[:coils, 0, ky])
    scan.lines(range(NY), encoding_space_ref=1)
    (made,) = assemble(scan)
    assert made.encoding.index == 1
    close(made.kspace, expected(scan, range(NY)))


def test_calibration_of_the_second_encoding_space_serves_its_images():
    scan = Scan.of(encodings=2, mode="separate")
    for ky in range(4, 12):
        scan.line(ky, 20, encoding_space_ref=1)
    scan.lines(range(NY), encoding_space_ref=1)
    (made,) = assemble(scan)
    assert made.calibrated.tolist() == [4 <= ky < 12 for ky in range(NY)]


def test_the_last_image_of_a_block_that_lacks_lines_is_the_last_of_the_measurement():
    scan = Scan.of()
    scan.lines([ky for ky in range(NY) if ky != 5], last=(8, 25))
    assembler = SliceAssembler(scan.header)
    assert [s for a in scan.made for s in assembler.feed(a)] == []
    (made,) = assembler.end_block()
    assert (made.missing_lines, made.edges >> 24 & 1) == (1, 1)


def test_what_comes_behind_the_measurement_is_not_its_end():
    scan = Scan.of()
    scan.lines(range(NY), last=(8, 25))
    for n in (1, 2):
        scan.lines(range(NY), slice=n)
    assert [s.edges >> 24 & 1 for s in assemble(scan)] == [1, 0, 0]


def test_partitions_of_a_slab_whose_matrix_has_one_are_refused():
    """Their sum looks like an image: that of the middle of the slab."""
    scan = Scan.of()
    for n in range(2):
        scan.lines(range(NY), slice=n, kspace_encode_step_2=n)  # slices may be counted there, too
    assert len(assemble(scan)) == 2
    scan.line(0, slice=2)
    scan.line(0, slice=2, kspace_encode_step_2=1)
    with pytest.raises(
        InconsistentScanError, match=r"step_2 = 1, lines .* before it 0, but .* one"
    ):
        assemble(scan)
