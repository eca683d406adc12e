"""Pixels for the page: 16 bits and a scale that leads back."""

from typing import Any

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.dashboard.picture import Picture, picture, planes_of
from chpnet_stream.mrd.wire.image_array import ImageArray
from chpnet_stream.streaming.events import LiveScan
from chpnet_stream.streaming.watch import _ready

LIVE = LiveScan("id", "scan", "acquisitions", 0.0)


def image(data: Any, **meta: Any) -> Any:
    made = ismrmrd.Image.from_array(np.asarray(data), transpose=False)
    made.read_dir, made.phase_dir = (1.0, 0, 0), (0, 1.0, 0)
    made.field_of_view = (2.0 * made.matrix_size[0], 100.0, 5.0)
    made.meta = ismrmrd.Meta(meta)
    return made


def shown(message: Any) -> list[Picture]:
    event = _ready(LIVE, 3, False, message)
    return [
        picture(n, event, facts, plane, 1.0) for n, (facts, plane) in enumerate(planes_of(event))
    ]


def values(made: Picture) -> np.ndarray:
    """What the page makes of a picture."""
    raw = np.frombuffer(made.pixels, "<u2").reshape(made.facts["height"], made.facts["width"])
    return raw * made.facts["slope"] + made.facts["intercept"]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16, np.int64, np.uint32])
def test_values_come_back(kind: Any) -> None:
    data = np.random.default_rng(1).normal(500, 200, size=(5, 7)).astype(kind)
    (made,) = shown(image(data))
    assert (made.facts["width"], made.facts["height"]) == (7, 5)
    span = float(data.max()) - min(float(data.min()), 0.0)
    np.testing.assert_allclose(values(made), data, atol=0.51 * span / 65535)


def test_uint16_goes_as_it_is_with_its_own_scale() -> None:
    data = np.arange(12, dtype=np.uint16).reshape(3, 4)
    (made,) = shown(image(data, RescaleSlope="0.5", RescaleIntercept="-1"))
    assert made.pixels == data.astype("<u2").tobytes()
    np.testing.assert_allclose(values(made), 0.5 * data - 1)


def test_complex_pixels_are_shown_as_magnitudes() -> None:
    data = np.array([[3 + 4j, -5], [0, 1j]], np.complex64)
    (made,) = shown(image(data))
    np.testing.assert_allclose(values(made), [[5, 5], [0, 1]], atol=1e-3)


def test_the_window_is_the_one_of_the_meta_else_from_the_pixels() -> None:
    data = np.full((8, 8), 100, np.float32)
    (told,) = shown(image(data, WindowCenter="40", WindowWidth="80"))
    assert told.facts["window"] == [40, 80]
    (found,) = shown(image(data))
    assert found.facts["window"] == pytest.approx([50, 100], rel=1e-3)


def test_nan_is_told_and_black() -> None:
    data = np.array([[np.nan, 1], [np.inf, 2]], np.float32)
    (made,) = shown(image(data))
    assert made.facts["finite"] is False
    np.testing.assert_allclose(values(made), [[0, 1], [0, 2]], atol=1e-3)


def test_an_image_of_next_to_nothing_is_shown_black() -> None:
    (made,) = shown(image(np.full((3, 3), 1e-42, np.float32)))
    np.testing.assert_allclose(values(made), 0, atol=1e-41)


def test_an_empty_image_is_shown_black() -> None:
    (made,) = shown(image(np.zeros((4, 4), np.float32)))
    assert made.pixels == bytes(32)
    assert made.facts["slope"] > 0


def test_facts_of_header_and_meta() -> None:
    sent = image(
        np.ones((4, 8), np.float32),
        ChpnetMethod="cg-sense",
        ChpnetFallback="late: not ready",
        ChpnetDataConsistencyResidual="0.08",
        ChpnetMissingLines="3",
        ImageRowDir=["-1", "0", "0"],
        ImageColumnDir=["0", "1", "0"],
    )
    sent.slice, sent.repetition, sent.image_series_index = 5, 2, 7
    (made,) = shown(sent)
    facts = made.facts
    assert (facts["slice"], facts["repetition"], facts["series"]) == (5, 2, 7)
    assert (facts["method"], facts["fallback"]) == ("cg-sense", "late: not ready")
    assert (facts["residual"], facts["missing_lines"]) == (0.08, 3)
    assert facts["edges"] == {"left": "L", "right": "R", "top": "A", "bottom": "P"}  # flipped
    assert facts["pixel_mm"] == [2.0, 25.0]


def test_image_arrays_have_a_picture_for_every_plane() -> None:
    x, y, n, loc = 3, 2, 2, 2
    data = np.arange(x * y * n * loc, dtype=np.complex64).reshape(x, y, 1, 1, n, 1, loc, order="F")
    headers = np.empty((n, 1, loc), object)
    metas = []
    for place in range(loc):
        for number in range(n):
            head = image(np.zeros((y, x), np.float32)).getHead()
            head.slice, head.repetition = place, number
            headers[number, 0, place] = head
            meta = ismrmrd.Meta({"ChpnetMethod": f"m{number}{place}"})
            metas.append(str(meta.serialize()).encode())
    made = shown(ImageArray(data, headers, metas))
    assert [(m.facts["slice"], m.facts["repetition"]) for m in made] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]
    assert [m.facts["method"] for m in made] == ["m00", "m10", "m01", "m11"]
    for one in made:
        plane = data[:, :, 0, 0, one.facts["repetition"], 0, one.facts["slice"]]
        np.testing.assert_allclose(values(one), plane.real.T, atol=1e-3)
