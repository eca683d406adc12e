"""Writes the pages of docs/ that are made from the code: `make docs`. A test checks them.

In a process of its own: click keeps the help option of a command as it was first shown.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import click
from pydantic import BaseModel

from chpnet_stream.cli.main import VERBS, cli
from chpnet_stream.mrd.flags import FLAGS
from chpnet_stream.schema import EVERY, SETTINGS, Setting
from chpnet_training.cli import VERBS as TRAINING_VERBS
from chpnet_training.cli import cli as training_cli
from chpnet_training.recipe import Recipe

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
RECIPES_HEAD = ["| setting | type | default | |", "|---|---|---|---|"]
RECIPES_INTRODUCTION = """# Training recipes

A recipe is a YAML file with the settings below (this page is written by `make docs`); what it
does not name has its default. An unknown setting is an error that says the near name. Every setting
can be replaced on the command line:

    chpnet-train student RECIPE --set optimizer.steps=2000 --set "student.widths=[16, 32]" ...

[configs/training](../configs/training) has recipes to start from, [cli.md](cli.md) the commands.

| setting | type | default | |
|---|---|---|---|"""
PROPERTIES_END = """## What does not go together

`image_type` complex with `dtype` uint16; with `send_baseline`, the same number for `series` and
`baseline_series`."""


def pages() -> dict[str, str]:
    """Name and text of every generated page."""
    return {
        "cli.md": command_line(),
        "flags.md": flags(),
        "properties.md": properties(),
        "recipes.md": recipes(),
    }


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


def recipes() -> str:
    """Every setting of a training recipe, section by section."""
    top = Recipe.model_fields
    parts = [RECIPES_INTRODUCTION, *_settings(Recipe), ""]
    for name, field in top.items():
        model = _model(field.annotation)
        if model is not None and name != "warmup":  # the settings of `optimizer` again
            about = inspect.cleandoc(model.__doc__ or "").splitlines()[0]
            parts += [f"## {name}", "", about, "", *RECIPES_HEAD, *_settings(model), ""]
    return "\n".join(parts)


def _settings(model: type[BaseModel]) -> list[str]:
    rows = []
    for name, field in model.model_fields.items():
        section = _model(field.annotation)
        limits = [
            f"{sign} {getattr(part, word)}"
            for part in field.metadata
            for word, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
            if hasattr(part, word)
        ]
        kind = f"[section](#{name if name != 'warmup' else 'optimizer'})" if section else None
        kind = kind or ", ".join([_kind(field.annotation), *limits])
        default = "" if section or field.is_required() else f"`{_yaml(field.default)}`"
        rows.append(f"| `{name}` | {kind} | {default} | {field.description} |")
    return rows


def _model(annotation: Any) -> type[BaseModel] | None:
    kinds = (annotation, *get_args(annotation))
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)


def _kind(annotation: Any) -> str:
    """A type in words."""
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    if annotation in words:
        return words[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin is tuple:
        count = "list of" if arguments[-1] is Ellipsis else "two"
        return f"{count} {_kind(arguments[0])}s"
    return " or ".join("null" if part is type(None) else _kind(part) for part in arguments)


def _yaml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


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
