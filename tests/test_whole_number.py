"""Whole numbers in texts from outside."""

import pytest

from chpnet_stream.whole_number import whole_number


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("18000", 18000), ("007", 7)])
def test_digits_are_a_number(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1.0", "²", "٣", "9" * 10, "9" * 5000])
def test_what_is_none_is_no_error(text: str) -> None:
    assert whole_number(text) is None


def test_how_many_digits_there_may_be() -> None:
    assert whole_number("9" * 20, 20) == 10**20 - 1
    assert whole_number("9" * 21, 20) is None
