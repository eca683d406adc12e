"""What the command lines share: a group whose verbs are modules, imported when they run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import click

from chpnet_stream import __version__
from chpnet_stream.cli.errors import ErrorReporter
from chpnet_stream.near import nearest


class LazyGroup(click.Group):
    """A group that imports `<package>.cmd_<verb>` when that verb is asked for.

    Args:
        verbs: Help text by verb; `--help` prints it and imports nothing.
        package: Package of the modules; each has a click command named `command`.
        settings: As for `click.Group`.
    """

    def __init__(
        self, *, verbs: Mapping[str, str] | None = None, package: str = "", **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.verbs = dict(verbs or {})
        self.package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all verbs, without importing them."""
        return sorted(self.verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The click command of a verb; None if there is no such verb."""
        if cmd_name not in self.verbs:
            return None
        module = importlib.import_module(f"{self.package}.cmd_{cmd_name}")
        command = module.command
        assert isinstance(command, click.Command)  # noqa: S101 - tells mypy; a test checks every verb
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the verbs from the table."""
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self.verbs.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the verb; an unknown one is answered with the nearest name.

        Raises:
            click.UsageError: If there is no such verb.
        """
        if args[0] not in self.verbs and not args[0].startswith("-"):
            near = nearest(args[0], self.verbs)
            known = ", ".join(sorted(self.verbs))
            hint = f"did you mean {near}?" if near else f"there are: {known}"
            raise click.UsageError(f"no command {args[0]!r}, {hint}", ctx)
        return super().resolve_command(ctx, args)


def make_group(program: str, about: str, verbs: Mapping[str, str], package: str) -> LazyGroup:
    """A program's click group, with the options that stand before the verb.

    Args:
        program: Name of the program.
        about: First line of its help.
        verbs: Help text by verb.
        package: Package of the modules `cmd_<verb>`.
    """

    @click.group(
        program,
        cls=LazyGroup,
        verbs=verbs,
        package=package,
        help=about,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    @click.version_option(__version__, prog_name=program)
    @click.option("--debug", is_flag=True, help="Write a log file with tracebacks; says where.")
    @click.option("-v", "--verbose", is_flag=True, help="Tell what is being done, on stderr.")
    @click.pass_obj
    def group(reporter: ErrorReporter, debug: bool, verbose: bool) -> None:
        reporter.start_logging(debug=debug, verbose=verbose)

    assert isinstance(group, LazyGroup)  # noqa: S101 - what `cls` says; tells mypy
    return group


def run_group(
    group: click.Group, program: str, args: Sequence[str] | None, packages: Sequence[str] = ()
) -> NoReturn:
    """Runs a program's group and leaves with its exit code.

    Args:
        group: From `make_group`.
        program: Name of the program.
        args: Words after the program's name; by default those of this process.
        packages: Packages whose log records are shown, beside chpnet_stream.
    """
    reporter = ErrorReporter(program, packages)
    words = list(sys.argv[1:] if args is None else args)
    sys.exit(
        reporter.run(
            lambda: group.main(words, prog_name=program, standalone_mode=False, obj=reporter)
        )
    )
