"""JSON that every reader takes."""

import json
from pathlib import Path

import numpy as np

from chpnet_stream.json_text import finite, json_text


def test_numbers_that_are_none_become_null_at_any_depth() -> None:
    value = {"a": [1.5, float("nan"), {"b": float("-inf")}], "c": (float("inf"), "x")}
    assert json.loads(json_text(value)) == {"a": [1.5, None, {"b": None}], "c": [None, "x"]}


def test_values_of_numpy_and_others() -> None:
    value = {"n": np.float32(0.5), "i": np.int64(3), "a": np.arange(3), "p": Path("x"), "u": "ü\n"}
    text = json_text(value)
    assert "\n" not in text
    assert json.loads(text) == {"n": 0.5, "i": 3, "a": [0, 1, 2], "p": "x", "u": "ü\n"}
    assert finite(np.array([np.nan, 1.0])) == [None, 1.0]


def test_indented_for_people() -> None:
    assert json_text({"a": 1}, indent=2) == '{\n  "a": 1\n}'
