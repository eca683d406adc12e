"""CSV files that are whole or not there."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chpnet_stream.whole_file import whole_file


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows; the columns are those of all rows.

    Args:
        path: File to write or replace.
        rows: Values by column; a row may lack some.

    Raises:
        OutputError: If it can't be written.
    """
    names = list(dict.fromkeys(key for row in rows for key in row))
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(rows)
