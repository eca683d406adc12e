from typing import get_args

import pytest
from pydantic import ValidationError

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.schema import EVERY, SETTINGS

FIELDS = ReconstructionOptions.model_fields


def test_schema_and_options_have_the_same_settings() -> None:
    assert list(FIELDS) == list(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_what_the_schema_says(name: str) -> None:
    setting, field = SETTINGS[name], FIELDS[name]
    assert field.default == setting.default
    assert field.description == setting.description
    assert setting.description.endswith(".")
    assert setting.gadgets
    assert set(setting.gadgets) <= set(EVERY)
    if setting.choices:
        assert get_args(field.annotation) == setting.choices
    else:
        assert field.annotation is type(setting.default)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_default_can_be_written_as_a_property(name: str) -> None:
    options = ReconstructionOptions.from_properties({name: SETTINGS[name].written})
    assert options == ReconstructionOptions()


def test_no_properties_are_the_defaults() -> None:
    assert ReconstructionOptions.from_properties({}) == ReconstructionOptions()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("method", "CG-SENSE", "cg-sense"),
        ("on_error", " Baseline-Only ", "baseline-only"),
        ("image_type", "Complex", "complex"),
        ("deadline_ms", "16.5", 16.5),
        ("virtual_coils", " 12 ", 12),
        ("model", "/models/Mine.json", "/models/Mine.json"),
        *(("send_baseline", text, True) for text in ("true", "1", "yes", "True", "YES")),
        *(("flip_rows", text, False) for text in ("false", "0", "no", "False", "NO")),
    ],
)
def test_values_are_read(name: str, text: str, value: object) -> None:
    assert getattr(ReconstructionOptions.from_properties({name: text}), name) == value


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("method", "grappa", "chpnet, cg-sense, zero-filled or rss"),
        ("on_error", "eror", "fallback, error or baseline-only; did you mean 'error'?"),
        ("deadline_ms", "-1", "a number of at least 0"),
        ("deadline_ms", "nan", "a number of at least 0"),
        ("deadline_ms", "inf", "a number of at least 0"),
        ("deadline_ms", "soon", "a number of at least 0"),
        ("virtual_coils", "8.5", "a whole number from 1 to 64"),
        ("series", "0", "a whole number from 1 to 65535"),
        ("baseline_series", "65536", "a whole number from 1 to 65535"),
        ("flip_rows", "maybe", "true or false"),
        ("model", "", "a text"),
    ],
)
def test_a_bad_value_is_quoted_with_what_was_expected(name: str, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ReconstructionOptions.from_properties({name: text})
    assert str(caught.value) == f"property {name}: found '{text}', expected {expected}"


@pytest.mark.parametrize(
    ("name", "near"), [("Model", "model"), ("deadline", "deadline_ms"), ("flip_row", "flip_rows")]
)
def test_an_unknown_property_suggests_the_near_one(name: str, near: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{name}'; did you mean '{near}'"):
        ReconstructionOptions.from_properties({name: "1"})


def test_an_unknown_property_without_a_near_one_tells_all() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ReconstructionOptions.from_properties({"zzz": "1"})
    assert all(name in str(caught.value) for name in SETTINGS)


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="image_type=complex with dtype=uint16"):
        ReconstructionOptions(image_type="complex", dtype="uint16")
    with pytest.raises(ConfigurationError, match="two different numbers"):
        ReconstructionOptions.from_properties({"send_baseline": "yes", "series": "2"})
    assert ReconstructionOptions(series=2).series == 2


def test_options_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ReconstructionOptions().series = 3  # type: ignore[misc]
