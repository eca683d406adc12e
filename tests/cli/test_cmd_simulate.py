import dataclasses
import json
from pathlib import Path

import pytest

from chpnet_stream.cli.cmd_simulate import command
from chpnet_stream.cli.main import main
from chpnet_stream.simulation.options import SimulationOptions
from tests.helpers import read_acquisitions

SMALL = [
    "--matrix",
    "32x48",
    "--slices",
    "2",
    "--coils",
    "2",
    "-R",
    "2",
    "--calibration-lines",
    "8",
]


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["simulate", *words])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_options_and_their_defaults_are_those_of_the_library() -> None:
    parsed = command.make_context("simulate", ["out.h5"]).params
    for name in ("out", "overwrite", "as_json"):
        parsed.pop(name)
    assert SimulationOptions(**parsed) == SimulationOptions()
    assert set(parsed) == {field.name for field in dataclasses.fields(SimulationOptions)}


def test_writes_a_scan_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scan.h5"
    assert run(str(path), *SMALL) == 0
    found = capsys.readouterr()
    assert "32 x 48" in found.out
    assert found.err == ""
    assert len(read_acquisitions(path)) == 1 + 2 * 20


def test_json_summary_counts_what_is_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "scan.h5"
    assert run(str(path), *SMALL, "--snr", "none", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["acquisitions"] == len(read_acquisitions(path))
    assert summary["matrix"] == [32, 48]
    assert summary["snr"] is None
    assert summary["noise_sigma"] == 0


def test_existing_file_needs_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scan.h5"
    path.write_text("mine")
    assert run(str(path), *SMALL) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert run(str(path), *SMALL, "--overwrite") == 0
    assert len(read_acquisitions(path)) > 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--matrix", "four"], "four"),
        (["--matrix", "4x4x4"], "4x4x4"),
        (["--matrix", "2"], "matrix"),
        (["--partial-fourier", "0.4"], "partial_fourier"),
        (["--snr", "loud"], "loud"),
        (["--coils", "0"], "coils"),
        (["--calibration-mode", "external"], "external"),
    ],
)
def test_bad_options_are_one_line_and_exit_2(
    words: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(tmp_path / "scan.h5"), *SMALL, *words) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
