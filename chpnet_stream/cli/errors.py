"""How a command ends: one line on stderr, an exit code, and the traceback in a log file."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from chpnet_stream.errors import ChpnetError

PROGRAM = "chpnet-stream"
EXIT_UNEXPECTED = 1
EXIT_INTERRUPTED = 130

logger = logging.getLogger("chpnet_stream")
# Tracebacks of a command that failed: to the log file, never to the terminal.
traceback_logger = logging.getLogger("chpnet_stream.cli.traceback")
traceback_logger.propagate = False


class ErrorReporter:
    """Runs a command and turns whatever comes out of it into an exit code and one line.

    Args:
        program: Name before every line, and of the folder of the log files.
        packages: Packages whose log records are shown, beside chpnet_stream.
    """

    def __init__(self, program: str = PROGRAM, packages: Sequence[str] = ()) -> None:
        self.program = program
        self._loggers = (logger, *(logging.getLogger(name) for name in packages))
        self._log_file: Path | None = None
        self._log: logging.FileHandler | None = None

    def start_logging(self, *, debug: bool, verbose: bool) -> None:
        """Sends log records to stderr (warnings; more with `verbose`), with `debug` to a file."""
        terminal = logging.StreamHandler(sys.stderr)
        terminal.setFormatter(_TerminalFormatter(self.program))
        terminal.setLevel(logging.INFO if verbose else logging.WARNING)
        for shown in self._loggers:
            shown.handlers = [terminal]
            shown.propagate = False
            shown.setLevel(logging.DEBUG if debug else terminal.level)
        # Without a log file there is nowhere for a traceback to go.
        traceback_logger.handlers = [logging.NullHandler()]
        if debug:
            self._open_log_file()

    def run(self, command: Callable[[], object]) -> int:
        """Calls `command` and returns the exit code of the process.

        Args:
            command: The click group, bound to its arguments, not in standalone mode.

        Returns:
            0; the error's own code (2 for bad input or usage); 130 after an interrupt; 1 for
            anything that nobody foresaw.
        """
        try:
            return self._run(command)
        finally:
            self._close_log_file()

    def _run(self, command: Callable[[], object]) -> int:
        try:
            result = command()
        except ChpnetError as error:
            traceback_logger.info("failed", exc_info=True)
            self._tell(str(error), self._log_file)
            return error.exit_code
        except click.exceptions.Exit as stop:
            return stop.exit_code
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return error.exit_code
        except click.UsageError as error:
            hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
            self._tell(error.format_message() + hint)
            return error.exit_code
        except click.ClickException as error:
            self._tell(error.format_message())
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            self._tell("interrupted")
            return EXIT_INTERRUPTED
        except Exception as error:
            self._open_log_file()
            traceback_logger.exception("unexpected error")
            self._tell(f"unexpected {type(error).__name__}: {error}", self._log_file)
            return EXIT_UNEXPECTED
        if self._log_file is not None:
            click.echo(f"{self.program}: log: {self._log_file}", err=True)
        return result if isinstance(result, int) else 0

    def _tell(self, message: str, log: Path | None = None) -> None:
        where = f" [log: {log}]" if log is not None else ""
        click.echo(f"{self.program}: error: {' '.join(message.split())}{where}", err=True)

    def _open_log_file(self) -> None:
        if self._log_file is not None:
            return
        try:
            path = _log_folder(self.program) / time.strftime(f"%Y%m%d-%H%M%S-{os.getpid()}.log")
            log = logging.FileHandler(path, encoding="utf-8")
        except OSError as error:  # a full disk, or one that may only be read
            words = f"no log file can be written: {error.strerror or error}"
            click.echo(f"{self.program}: warning: {words}", err=True)
            return
        self._log_file = path
        log.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        for shown in self._loggers:
            shown.addHandler(log)
        self._log = log
        traceback_logger.handlers = [log]
        traceback_logger.setLevel(logging.DEBUG)
        traceback_logger.debug("command line: %s", sys.argv)

    def _close_log_file(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            for writer in (*self._loggers, traceback_logger):
                writer.removeHandler(log)
            log.close()


class _TerminalFormatter(logging.Formatter):
    """One line a record, never a traceback: those belong into the log file."""

    def __init__(self, program: str) -> None:
        super().__init__()
        self._program = program

    def format(self, record: logging.LogRecord) -> str:
        return (
            f"{self._program}: {record.levelname.lower()}: {' '.join(record.getMessage().split())}"
        )


def _log_folder(program: str) -> Path:
    """$XDG_STATE_HOME/<program>, by default below ~/.local/state; else the temporary folder."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(state) / program
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir())
    return folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())
