"""Whole numbers in texts from outside."""

from __future__ import annotations


def whole_number(text: str, digits: int = 9) -> int | None:
    """The number that a text is; None where it is none.

    Signs and spaces are none, nor digits of other scripts, some of which Python can't read, nor
    more digits than anybody means: of thousands it makes no number, but an error.

    Args:
        text: As it came.
        digits: How many there may be.
    """
    plain = text.isascii() and text.isdigit() and len(text) <= digits
    return int(text) if plain else None
