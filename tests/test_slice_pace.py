from itertools import count

import pytest

from chpnet_stream.slice_pace import MOST_SLICES, SlicePace


def paced(lines: int) -> SlicePace:
    """After a first slice of so many lines."""
    pace = SlicePace()
    for i in range(lines - 1):
        pace.line(1, i)
    pace.end(1, complete=True)  # by its last line
    return pace


def test_the_first_slice_tells_how_many_lines_the_next_will_have() -> None:
    pace = SlicePace()
    assert [pace.line(1, 0.1 * i) for i in range(9)] == [None] * 9
    pace.end(1, complete=True)
    told = [pace.line(2, 5 + 0.2 * i) for i in range(9)]
    assert told[0] is None  # nobody knows how fast they come
    assert told[1:] == pytest.approx([5 + 0.2 * 9] * 8)


def test_a_pause_moves_the_end() -> None:
    pace = paced(10)
    assert [pace.line(2, t) for t in (0, 1, 2, 12)] == [None, 9.0, 9.0, 12 + 4 * 6]


def test_of_slices_measured_in_turns_the_next_counts() -> None:
    pace, clock = SlicePace(), count()
    for _ in range(9):
        for serial in (1, 2, 3):
            pace.line(serial, next(clock))
    for serial in (1, 2, 3):
        next(clock)
        pace.end(serial, complete=True)
    told = [pace.line(serial, next(clock)) for _ in range(9) for serial in (4, 5, 6)]
    assert told[:3] == [None] * 3
    # the tenth lines come 27, 28 and 29 behind the first ones, which begin at 30
    assert told[3:] == pytest.approx([57.0] * 24)
    pace.end(4, complete=True)
    assert pace.line(7, next(clock)) == pytest.approx(58.0)


def test_of_more_lines_than_usual_nothing_is_foreseen() -> None:
    pace = paced(4)
    assert [pace.line(2, i) for i in range(6)] == [None, 3.0, 3.0, None, None, None]


def test_from_slices_that_were_cut_off_nothing_is_learned() -> None:
    pace = paced(10)
    for i in range(3):
        pace.line(2, i)
    pace.end(2, complete=False)
    assert pace.usual == 10


def test_lines_that_come_in_one_block_foretell_nothing() -> None:
    pace = paced(10)
    assert [pace.line(2, 7.0) for _ in range(9)] == [None] * 9


def test_slices_that_never_end_are_forgotten() -> None:
    pace = SlicePace()
    for serial in range(3 * MOST_SLICES):
        pace.line(serial, serial)
    assert len(pace._open) == MOST_SLICES
    pace.end(0, complete=True)
    assert pace.usual == 0  # nothing is known of it
