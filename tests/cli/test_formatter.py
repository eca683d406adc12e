import json

import numpy as np
import pytest

from chpnet_stream.cli.formatter import show, show_list, text_of


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "mm", "-"),
        ([], "", "-"),
        (True, "", "yes"),
        (0, "", "0"),
        (0, "ms", "0 ms"),
        (12.34567, "ms", "12.35 ms"),
        (float("nan"), "dB", "nan dB"),
        (9999, "", "9999"),
        (1234567, "", "1,234,567"),
        (1234.56, "", "1,235"),
        ((256, 192), "", "256 x 192"),
        ([280.0, 210.0], "mm", "280 x 210 mm"),
        (["one", "two"], "", "one\ntwo"),
        ({"slice": 3, "psnr_db": 35.25}, "", "slice 3, psnr 35.25 dB"),
        ("a\x1b[31mred", "", "a?[31mred"),
    ],
)
def test_values_as_people_read_them(value, unit, text):
    assert text_of(value, unit) == text


def test_units_come_from_the_names(capsys):
    show({"fov_mm": (240.0, 200.0), "slices": 5, "latency_p50_ms": 3.14159}, title="Scan")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "Scan"
    assert any("fov " in line and "240 x 200 mm" in line for line in lines)
    assert any("latency p50" in line and "3.142 ms" in line for line in lines)


def test_json_has_the_values_as_they_are(capsys):
    rows = {"fov_mm": (240.0, 200.0), "latency_p50_ms": 3.14159, "snr": None, "bad": float("inf")}
    show(rows, title="Scan", as_json=True)
    found = capsys.readouterr().out
    assert found.count("\n") == 1
    assert json.loads(found) == {
        "fov_mm": [240.0, 200.0],
        "latency_p50_ms": 3.14159,
        "snr": None,
        "bad": None,
    }


def test_text_of_a_header_is_not_markup(capsys):
    show({"protocol": "[bold]brain[/bold] [/nothing]"}, title="[red]")
    found = capsys.readouterr().out
    assert "[bold]brain[/bold] [/nothing]" in found
    assert "[red]" in found


def test_long_values_stay_whole_in_a_pipe(capsys):
    show({"checksum": "0123456789abcdef" * 4, "path": "x" * 60}, title="Model")
    assert "0123456789abcdef" * 4 in capsys.readouterr().out


def test_lists_have_a_row_for_each_record(capsys):
    records = [{"name": "one", "size_mb": 1.5, "hidden": 1}, {"name": "two", "size_mb": None}]
    show_list(records, title="Models", columns=["name", "size_mb"])
    found = capsys.readouterr().out
    assert "size [MB]" in found
    assert "hidden" not in found
    assert found.index("one") < found.index("two")
    show_list(records, title="Models", columns=["name"], as_json=True)
    assert json.loads(capsys.readouterr().out) == records


def test_values_of_numpy_are_plain_ones(capsys):
    rows = {"n": np.float32(1.5), "count": np.int64(3), "size": np.array([4, 5])}
    show(rows, title="t", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"n": 1.5, "count": 3, "size": [4, 5]}
    assert text_of(np.array([4, 5]), "mm") == "4 x 5 mm"
