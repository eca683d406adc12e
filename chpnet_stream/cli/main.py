"""The command `chpnet-stream`: a table of verbs, of which only the one that runs is imported.

A verb is a module `chpnet_stream.cli.cmd_<verb>` with a click command named `command`, plus one
line in `VERBS`. The help text stands in that table: `chpnet-stream --help` imports none of them.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from chpnet_stream import __version__
from chpnet_stream.cli.errors import PROGRAM, ErrorReporter

VERBS = {
    "info": "Say what a scan is, and whether it can be reconstructed.",
    "models": "List the networks that are installed.",
    "offline": "Reconstruct an ISMRMRD file.",
    "simulate": "Write a simulated scan of a head phantom as an ISMRMRD file.",
}


class LazyGroup(click.Group):
    """A click group that imports `cmd_<verb>` when that verb is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all verbs, without importing them."""
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The click command of a verb; None if there is no such verb."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"chpnet_stream.cli.cmd_{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)  # noqa: S101 - tells mypy; a test checks every verb
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the verbs from the table."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the verb; an unknown one is answered with the nearest name.

        Raises:
            click.UsageError: If there is no such verb.
        """
        if args[0] not in VERBS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(VERBS))}"
            raise click.UsageError(f"no command {args[0]!r}, {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM)
@click.option("--debug", is_flag=True, help="Write a log file with tracebacks; says where it is.")
@click.option("-v", "--verbose", is_flag=True, help="Tell what is being done, on stderr.")
@click.pass_obj
def cli(reporter: ErrorReporter, debug: bool, verbose: bool) -> None:
    """Reconstructs accelerated MRI scans: ISMRMRD in, ISMRMRD out."""
    reporter.start_logging(debug=debug, verbose=verbose)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and leaves with its exit code.

    Args:
        args: Words after the program's name; by default those of this process.
    """
    reporter = ErrorReporter()
    words = list(sys.argv[1:] if args is None else args)
    sys.exit(
        reporter.run(
            lambda: cli.main(words, prog_name=PROGRAM, standalone_mode=False, obj=reporter)
        )
    )
