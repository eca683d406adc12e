"""What the benchmarks share: Markdown tables, and the machine and the versions they ran with."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

from chpnet_stream.benchmark.machine import bart_version
from chpnet_stream.benchmark.tables import markdown_table
from chpnet_stream.engines.processor import cores, described
from chpnet_stream.whole_file import write_whole

__all__ = ["CHECKOUT", "TABLES", "machine", "markdown_table", "write"]

CHECKOUT = Path(__file__).resolve().parent.parent
TABLES = CHECKOUT / "docs" / "tables"


def machine(threads: int) -> str:
    """The processor and the versions, in two lines. No host name, no paths."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "numpy"))
    return (
        f"Hardware: {described()}, {cores()} cores; threads used: {threads}.\n"
        f"Software: Python {platform.python_version()}, {packages}, bart "
        f"{bart_version() or 'not installed'}."
    )


def write(path: Path, text: str) -> None:
    """Write a table whole or not at all, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.rstrip() + "\n")
    print(f"wrote {path.name}")
