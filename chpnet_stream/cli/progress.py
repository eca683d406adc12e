"""A bar on stderr for work that goes slice by slice; nothing where that is no terminal."""

from __future__ import annotations

from typing import Any


def slices_bar() -> Any:
    """A `rich.progress.Progress` that counts slices."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    terminal = Console(stderr=True)
    return Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        "slices",
        TimeRemainingColumn(),
        console=terminal,
        transient=True,
        disable=not terminal.is_terminal,
    )
