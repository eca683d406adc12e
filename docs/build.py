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
from chpnet_stream.schema import EVERY, SETTINGS, Setting
from chpnet_training.cli import VERBS as TRAINING_VERBS
from chpnet_training.cli import cli as training_cli

FOLDER = Path(__file__).parent
WIDTH = 90

PROPERTIES_INTRODUCTION = """# Properties

What a Gadgetron chain can set in the `<configuration>` of our gadgets (this page is written by
`make docs` from `chpnet_stream/schema.py`):

    <configuration>
      <property name="model" value="chpnet-rt"/>
      <property name="deadline_ms" value="150"/>
    </configuration>

A property that is not set has its default; behind a `<connect>`, that of the server's options
(`chpnet-stream gadget --property NAME=VALUE`) comes first. Choices are read in upper and lower
case, booleans as true, false, yes, no, 1 or 0. An unknown property, or a value that does not fit,
ends the scan with an error that names the near one; `chpnet-stream chain` finds both before. Most
are options of `chpnet-stream offline` too, with dashes.

| property | values | default | gadgets |
|---|---|---|---|"""
PROPERTIES_END = """## What does not go together

`image_type` complex with `dtype` uint16; with `send_baseline`, the same number for `series` and
`baseline_series`."""


def pages() -> dict[str, str]:
    """Name and text of every generated page."""
    return {"cli.md": command_line(), "flags.md": flags(), "properties.md": properties()}


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


def properties() -> str:
    """Every setting of a reconstruction, as a property of a chain."""
    parts = [PROPERTIES_INTRODUCTION]
    parts += [
        f"| [`{s.name}`](#{s.name}) | {s.expected}{f', in {s.unit}' if s.unit else ''} | "
        f"`{s.written}` | {_gadgets(s)} |"
        for s in SETTINGS.values()
    ]
    for setting in SETTINGS.values():
        parts += ["", f"## {setting.name}", "", f"{setting.description} {setting.note}".strip()]
    parts += ["", PROPERTIES_END]
    return "\n".join(parts) + "\n"


def _gadgets(setting: Setting) -> str:
    return "all" if setting.gadgets == EVERY else ", ".join(setting.gadgets)


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
