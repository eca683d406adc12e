"""Which images have not come."""

from collections import Counter

from chpnet_stream.client.missing import missing_images
from chpnet_stream.client.report import SendReport
from chpnet_stream.mrd.expected import Expected


def keys(*slices: int, repetition: int = 0) -> list[tuple[int, ...]]:
    return [(number, 0, 0, repetition, 0) for number in slices]


def report(**series: list[tuple[int, ...]]) -> SendReport:
    made = SendReport()
    for name, found in series.items():
        made.received[int(name[1:])] = Counter(found)
    return made


def expected(found: list[tuple[int, ...]], partitions: int = 1) -> Expected:
    return Expected(len(found) * partitions, 1, (0, 0), partitions, frozenset(found))


def test_all_have_come() -> None:
    assert missing_images(report(s1=keys(0, 1)), expected(keys(0, 1)), 2) == ""
    assert missing_images(report(s1=keys(0, 1), s2=keys(0, 1)), expected(keys(0, 1)), 2) == ""
    assert missing_images(SendReport(), expected([]), 0) == ""


def test_the_missing_are_named() -> None:
    wanted = [*keys(0, 1), *keys(1, repetition=3)]
    found = missing_images(report(s1=keys(0)), expected(wanted), 3)
    assert found == "found images of 1 of 3 slices, none of: slice 1; slice 1 repetition 3"
    many = missing_images(report(s1=[]), expected(keys(*range(9))), 9)
    assert many.endswith("slice 4; and 4 more")


def test_twice_one_image_is_not_two() -> None:
    assert missing_images(report(s1=keys(0, 0)), expected(keys(0, 1)), 2)


def test_every_partition_of_a_slab() -> None:
    assert missing_images(report(s1=keys(0, 0, 0)), expected(keys(0), 4), 4)
    assert missing_images(report(s1=keys(0, 0), s2=keys(0, 0)), expected(keys(0), 4), 4)
    assert missing_images(report(s1=keys(0, 0, 0, 0)), expected(keys(0), 4), 4) == ""


def test_servers_with_counters_of_their_own_are_counted() -> None:
    strange = report(s5=keys(7, 7))
    assert missing_images(strange, expected(keys(0, 1)), 2) == ""
    assert missing_images(strange, expected(keys(0, 1, 2)), 3) == "found 2 images, expected 3"


def test_another_number_is_counted() -> None:
    assert missing_images(report(s1=keys(0)), expected(keys(0, 1)), 1) == ""
    assert missing_images(report(s1=keys(0, 1)), expected(keys(0, 1)), 3)


def test_of_images_every_series_is_counted() -> None:
    """All that had come of a file with two series were taken for half of it."""
    both, none = {1: 2, 2: 2}, expected([])
    assert missing_images(report(s1=keys(0, 1), s2=keys(0, 1)), none, 4, both) == ""
    assert (
        missing_images(report(s1=keys(0, 1), s2=keys(0)), none, 4, both)
        == "found 1 of 2 images of series 2"
    )
    lost = report(s1=keys(0, 1), s7=keys(0, 1))  # 7: of a server that sends two for each
    assert missing_images(lost, none, 4, both) == "found 2 images, expected 4"


def test_series_that_the_server_numbers_anew_are_counted_together() -> None:
    both, none = {3: 2, 4: 2}, expected([])
    assert missing_images(report(s1=keys(0, 1, 2, 3)), none, 4, both) == ""
    assert missing_images(report(s1=keys(0, 1, 2)), none, 4, both)
    assert missing_images(report(s1=keys(0, 1)), none, 2, both) == ""  # as --expect says
