import logging
from pathlib import Path

import click
import pytest

from chpnet_stream.cli.errors import ErrorReporter
from chpnet_stream.errors import EngineError, InputError


@pytest.fixture(autouse=True)
def log_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "chpnet-stream"


def fail(error: BaseException) -> None:
    raise error


def reporter(*, debug: bool = False, verbose: bool = False) -> ErrorReporter:
    made = ErrorReporter()
    made.start_logging(debug=debug, verbose=verbose)
    return made


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("no such\nfile"), 2),
        (EngineError("no such file"), 1),
        (click.UsageError("no such file"), 2),
        (click.ClickException("no such file"), 1),
        (click.BadParameter("no such file"), 2),
    ],
)
def test_foreseen_errors_are_one_line(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str], log_folder: Path
) -> None:
    assert reporter().run(lambda: fail(error)) == code
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith("chpnet-stream: error: ")
    assert "no such file" in found.err
    assert found.err.count("\n") == 1
    assert not log_folder.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interrupts_exit_130(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    assert reporter().run(lambda: fail(error)) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_unexpected_errors_leave_the_traceback_in_a_log(
    capsys: pytest.CaptureFixture[str], log_folder: Path
) -> None:
    assert reporter().run(lambda: fail(ZeroDivisionError("by zero"))) == 1
    line = capsys.readouterr().err
    assert line.startswith("chpnet-stream: error: unexpected ZeroDivisionError: by zero")
    assert line.count("\n") == 1
    (log,) = log_folder.iterdir()
    assert str(log) in line
    assert "Traceback" in log.read_text()
    assert "ZeroDivisionError: by zero" in log.read_text()


def test_errors_before_logging_starts_are_logged_too(
    capsys: pytest.CaptureFixture[str], log_folder: Path
) -> None:
    assert ErrorReporter().run(lambda: fail(RuntimeError("early"))) == 1
    (log,) = log_folder.iterdir()
    assert str(log) in capsys.readouterr().err
    assert "RuntimeError: early" in log.read_text()


def test_debug_says_where_the_log_is(capsys: pytest.CaptureFixture[str], log_folder: Path) -> None:
    assert reporter(debug=True).run(lambda: fail(InputError("not HDF5"))) == 2
    (log,) = log_folder.iterdir()
    line = capsys.readouterr().err
    assert str(log) in line
    assert "Traceback" not in line
    assert "InputError: not HDF5" in log.read_text()


def test_unwritable_state_folder_falls_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert reporter().run(lambda: fail(ZeroDivisionError())) == 1
    (log,) = tmp_path.glob("*.log")
    assert str(log) in capsys.readouterr().err


@pytest.mark.parametrize("debug", [False, True])
def test_without_any_folder_for_logs_the_error_is_told_all_the_same(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    debug: bool,
) -> None:
    """A container whose disks may only be read: the user saw a traceback of the log."""
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    monkeypatch.setattr("tempfile.tempdir", str(blocked))
    assert reporter(debug=debug).run(lambda: fail(ZeroDivisionError("by zero"))) == 1
    *warnings, error = capsys.readouterr().err.splitlines()
    assert all("warning: no log file can be written: Not a directory" in line for line in warnings)
    assert error == "chpnet-stream: error: unexpected ZeroDivisionError: by zero"


@pytest.mark.parametrize(("verbose", "lines"), [(False, 1), (True, 2)])
def test_records_of_the_library_are_single_lines(
    verbose: bool, lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        library = logging.getLogger("chpnet_stream.session")
        library.info("opened")
        try:
            fail(ValueError("inner"))
        except ValueError:
            library.exception("slice 3 fell back")

    assert reporter(verbose=verbose).run(command) == 0
    found = capsys.readouterr().err
    assert found.count("\n") == lines
    assert "chpnet-stream: error: slice 3 fell back" in found
    assert "Traceback" not in found
