"""What the benchmarks share: Markdown tables, and the machine and the versions they ran with."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chpnet_training.machine import processor

CHECKOUT = Path(__file__).resolve().parent.parent
TABLES = CHECKOUT / "docs" / "tables"


def markdown_table(rows: Sequence[Mapping[str, Any]], digits: Mapping[str, int]) -> str:
    """A Markdown table of the rows, with the columns of the first.

    Args:
        rows: Values by column.
        digits: Decimals of the columns that hold numbers.
    """
    names = list(rows[0])
    lines = [
        f"| {' | '.join(names)} |",
        "|" + "|".join("---:" if name in digits else "---" for name in names) + "|",
    ]
    for row in rows:
        cells = (_cell(row[name], digits.get(name)) for name in names)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: Any, digits: int | None) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if digits is not None else str(value)


def machine(threads: int) -> str:
    """The processor and the versions, in two lines. No host name, no paths."""
    cores = len(os.sched_getaffinity(0))
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "numpy"))
    return (
        f"Hardware: {processor()}, {cores} cores; threads used: {threads}.\n"
        f"Software: Python {platform.python_version()}, {packages}, bart {bart_version()}."
    )


def bart_version() -> str:
    """Version of the program `bart`, or "not installed"."""
    program = shutil.which("bart")
    if program is None:
        return "not installed"
    done = subprocess.run(  # noqa: S603 - a fixed command
        [program, "version"], capture_output=True, text=True, timeout=60, check=False
    )
    return (done.stdout.strip() or done.stderr.strip() or "unknown").removeprefix("v")


def write(path: Path, text: str) -> None:
    """Write a table whole or not at all, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text.rstrip() + "\n", encoding="utf-8")
    partial.replace(path)
    print(f"wrote {path.name}")
