"""Writes the pages of docs/ that are made from the code: `make docs`. A test checks them.

In a process of its own: click keeps the help option of a command as it was first shown.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

from chpnet_stream.cli.main import VERBS, cli
from chpnet_stream.mrd.flags import FLAGS
from chpnet_training.cli import VERBS as TRAINING_VERBS
from chpnet_training.cli import cli as training_cli

FOLDER = Path(__file__).parent
WIDTH = 90


def pages() -> dict[str, str]:
    """Name and text of every generated page."""
    return {"cli.md": command_line(), "flags.md": flags()}


def command_line() -> str:
    """The help texts of both commands."""
    parts = [
        "# Command line\n\nThe help texts of all commands (this page is written by `make docs`).\n"
    ]
    for program, group, verbs, package in (
        ("chpnet-stream", cli, VERBS, "chpnet_stream.cli"),
        ("chpnet-train", training_cli, TRAINING_VERBS, "chpnet_training"),
    ):
        parts.append(f"## {program}\n\n{_help(group, program)}")
        for verb in sorted(verbs):
            command = importlib.import_module(f"{package}.cmd_{verb}").command
            parts.append(f"### {program} {verb}\n\n{_help(command, f'{program} {verb}')}")
    return "\n".join(parts)


def _help(command: click.Command, name: str) -> str:
    context = click.Context(
        command,
        info_name=name,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    return f"```text\n{text}\n```\n"


def flags() -> str:
    """The treatment of every acquisition flag."""
    rows = [
        "# Acquisition flags",
        "",
        "What happens to an acquisition that carries a flag of the ISMRMRD standard (this page is "
        "written by `make docs` from `chpnet_stream/mrd/flags.py`).",
        "",
        "| number | name | treatment | note |",
        "|---|---|---|---|",
    ]
    rows += [f"| {f.number} | {f.name} | {f.treatment.value} | {f.note} |" for f in FLAGS]
    return "\n".join(rows) + "\n"


def main(words: list[str]) -> int:
    """Write all pages; with `--check` only tell which are out of date."""
    stale = []
    for name, text in pages().items():
        page = FOLDER / name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            stale.append(name)
            if "--check" not in words:
                page.write_text(text, encoding="utf-8")
    if "--check" in words and stale:
        click.echo(f"out of date: {', '.join(stale)}; run make docs", err=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
