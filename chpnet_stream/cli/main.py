"""The command `chpnet-stream`: a table of verbs, of which only the one that runs is imported.

A verb is a module `chpnet_stream.cli.cmd_<verb>` with a click command named `command`, plus one
line in `VERBS`. The help text stands in that table: `chpnet-stream --help` imports none of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from chpnet_stream import __version__
from chpnet_stream.cli.errors import PROGRAM, ErrorReporter
from chpnet_stream.cli.group import LazyGroup

VERBS = {
    "info": "Say what a scan is, and whether it can be reconstructed.",
    "models": "List the networks that are installed.",
    "offline": "Reconstruct an ISMRMRD file.",
    "simulate": "Write a simulated scan of a head phantom as an ISMRMRD file.",
}


@click.group(
    cls=LazyGroup,
    verbs=VERBS,
    package="chpnet_stream.cli",
    context_settings={"help_option_names": ["-h", "--help"]},
)
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
