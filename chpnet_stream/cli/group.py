"""A click group whose verbs are modules, of which only the one that runs is imported."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click


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
            near = difflib.get_close_matches(args[0], self.verbs, n=1)
            known = ", ".join(sorted(self.verbs))
            hint = f"did you mean {near[0]}?" if near else f"there are: {known}"
            raise click.UsageError(f"no command {args[0]!r}, {hint}", ctx)
        return super().resolve_command(ctx, args)
