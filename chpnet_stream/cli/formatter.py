"""What a verb found, as a table for people or as JSON for programs.

Verbs hand over plain values under snake_case names; JSON gets both as they are. A table turns the
end of a name into a unit: `latency_p50_ms = 12.3456` reads "latency p50 | 12.35 ms".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from chpnet_stream.json_text import json_text

UNITS = {
    "mm": "mm",
    "us": "µs",
    "ms": "ms",
    "s": "s",
    "min": "min",
    "hz": "Hz",
    "db": "dB",
    "kb": "kB",
    "mb": "MB",
    "gmac": "GMAC",
    "percent": "%",
    "t": "T",
}
"""Units by the last word of a name."""

# A pipe has no width. Rich would take 80 columns there and break values in the middle.
PIPE_WIDTH = 160


def show(rows: Mapping[str, Any], *, title: str, as_json: bool = False) -> None:
    """Print names and values on stdout: two columns, or one JSON object.

    Args:
        rows: Values by name, in order: text, numbers (not formatted), booleans, None, sequences
            of these, and mappings (shown as "name value, name value").
        title: Heading of the table.
        as_json: Print JSON instead.
    """
    if as_json:
        click.echo(json_text(rows))
        return
    from rich.text import Text

    table = _table(title)
    for name, value in rows.items():
        label, unit = _label(name)
        table.add_row(Text(label), Text(text_of(value, unit)))
    _print(table)


def show_list(
    records: Sequence[Mapping[str, Any]],
    *,
    title: str,
    columns: Iterable[str] | None = None,
    as_json: bool = False,
) -> None:
    """Print records on stdout: a row for each, or a JSON list of objects.

    Args:
        records: Values by name, as for `show`.
        title: Heading of the table.
        columns: Names that the table shows, by default those of the first record. JSON has all.
        as_json: Print JSON instead.
    """
    if as_json:
        click.echo(json_text(list(records)))
        return
    from rich.text import Text

    names = list(columns if columns is not None else records[0] if records else [])
    table = _table(title, header=True)
    for name in names:
        label, unit = _label(name)
        numeric = any(_is_number(record.get(name)) for record in records)
        table.add_column(
            Text(f"{label} [{unit}]" if unit else label), justify="right" if numeric else "left"
        )
    for record in records:
        table.add_row(*(Text(text_of(record.get(name))) for name in names))
    _print(table)


def text_of(value: Any, unit: str = "") -> str:
    """A value as people read it: four significant digits, `x` between sizes, a dash for None.

    Args:
        value: As for `show`.
        unit: Written after a number.
    """
    value = _plain(value)
    if value is None or value in ("", [], (), {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        labels = {key: _label(str(key)) for key in value}
        return ", ".join(
            f"{labels[k][0]} {text_of(part, labels[k][1])}" for k, part in value.items()
        )
    if isinstance(value, list | tuple):
        if all(_is_number(part) for part in value):
            return " x ".join(text_of(part) for part in value) + (f" {unit}" if unit else "")
        return "\n".join(text_of(part) for part in value)
    if isinstance(value, float):
        shown = f"{value:.4g}" if abs(value) < 1000 or not math.isfinite(value) else f"{value:,.0f}"
    elif isinstance(value, int):
        shown = f"{value:,}" if abs(value) >= 10_000 else str(value)
    else:
        # Text may come from a scan's header: no escape sequence reaches the terminal.
        return "".join(c if c.isprintable() or c == "\n" else "?" for c in str(value))
    return f"{shown} {unit}" if unit else shown


def _plain(value: Any) -> Any:
    """Python's own number, list or text for those of numpy."""
    return value.tolist() if hasattr(value, "tolist") else value


def _is_number(value: Any) -> bool:
    value = _plain(value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _label(name: str) -> tuple[str, str]:
    """Words and unit of a name: `fov_mm` is ("fov", "mm")."""
    rest, _, last = name.rpartition("_")
    if rest and last in UNITS:
        return rest.replace("_", " "), UNITS[last]
    return name.replace("_", " "), ""


def _table(title: str, *, header: bool = False) -> Any:
    from rich.table import Table
    from rich.text import Text

    return Table(title=Text(text_of(title)), show_header=header, title_justify="left")


def _print(table: Any) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(table)
