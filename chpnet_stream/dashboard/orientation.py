"""Letters at the edges of an image: which side of the patient is where."""

from __future__ import annotations

from collections.abc import Sequence

LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))
"""Towards growing and falling x, y, z of the patient's coordinates (LPS)."""

TELLS = 0.26
"""Share of a direction (sine of 15 degrees) from which a letter is told."""


def letters_of(direction: Sequence[float]) -> str:
    """Where a direction in LPS coordinates points: "L", or "LH" where it is oblique.

    Args:
        direction: x, y, z; any length but zero.

    Returns:
        Letters, the strongest first; empty where the direction is none.
    """
    length = sum(v * v for v in direction) ** 0.5
    if not 0 < length < float("inf"):
        return ""
    told = [
        (abs(v) / length, up if v > 0 else down)
        for v, (up, down) in zip(direction, LETTERS, strict=True)
        if abs(v) / length >= TELLS
    ]
    return "".join(letter for _, letter in sorted(told, reverse=True))


def edges(row: Sequence[float], column: Sequence[float]) -> dict[str, str]:
    """Letters at the four edges of an image.

    Args:
        row: Direction along a row, to the right.
        column: Direction along a column, downwards.
    """
    return {
        "right": letters_of(row),
        "left": letters_of([-v for v in row]),
        "bottom": letters_of(column),
        "top": letters_of([-v for v in column]),
    }
