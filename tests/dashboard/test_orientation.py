"""Letters at the edges, from directions in LPS."""

import math

import pytest

from chpnet_stream.dashboard.orientation import edges, letters_of


@pytest.mark.parametrize(
    ("direction", "letters"),
    [
        ((1, 0, 0), "L"),
        ((-1, 0, 0), "R"),
        ((0, 1, 0), "P"),
        ((0, -1, 0), "A"),
        ((0, 0, 1), "H"),
        ((0, 0, -1), "F"),
        ((0, 0, 0), ""),
        ((math.nan, 0, 0), ""),
    ],
)
def test_axes_have_their_letters(direction: tuple[float, ...], letters: str) -> None:
    assert letters_of(direction) == letters


def test_oblique_directions_have_two_the_stronger_first() -> None:
    angle = math.radians(30)
    assert letters_of((math.cos(angle), 0, math.sin(angle))) == "LH"
    assert letters_of((math.sin(angle), 0, -math.cos(angle))) == "FL"
    slight = math.radians(10)
    assert letters_of((math.cos(slight), 0, math.sin(slight))) == "L"


def test_an_axial_image_of_a_supine_patient() -> None:
    # Rows run to the patient's left, columns to the back: the radiological view.
    assert edges((1, 0, 0), (0, 1, 0)) == {"left": "R", "right": "L", "top": "A", "bottom": "P"}


def test_a_flip_turns_the_letters_round() -> None:
    assert edges((-1, 0, 0), (0, 0, -1)) == {"left": "L", "right": "R", "top": "H", "bottom": "F"}
