"""What has been measured already, in a file, so that a run that was ended goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chpnet_stream import __version__
from chpnet_stream.benchmark.machine import package_versions
from chpnet_stream.benchmark.plan import Case, Plan
from chpnet_stream.benchmark.references import may_come_yet
from chpnet_stream.engines.processor import cores, instructions, processor
from chpnet_stream.errors import ConfigurationError
from chpnet_stream.json_text import json_text
from chpnet_stream.network.weights import find_model
from chpnet_stream.whole_file import check_target, write_whole

FORMAT = 3


class Kept:
    """Rows of the tables, one entry for each engine and size.

    A file holds rows of one machine, version, model and kind of series only: others are refused.
    Numbers of slices may differ from run to run: rows of fewer slices are measured again.

    Args:
        plan: What is to be measured.
        path: The file; None keeps nothing.

    Raises:
        ConfigurationError: The file is none of this kind, or of another series.
        OutputError: Its folder is not there.
    """

    def __init__(self, plan: Plan, path: Path | None = None) -> None:
        self.plan = plan
        self.path = path
        self._series = _series(plan) if path else {}
        self._rows: dict[str, Any] = {}
        if path is not None:
            check_target(path, overwrite=True)  # before anything is measured
            if path.exists():
                self._rows = self._read(path)

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            found, series = told["rows"], told["series"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"--resume {path.name}: expected a file that an earlier run has kept, found "
                f"{type(error).__name__}: {error}; name another one"
            ) from error
        for name, value in self._series.items():
            if series.get(name) != value:
                raise ConfigurationError(
                    f"--resume {path.name}: expected {name} {value!r} as in this run, found "
                    f"{series.get(name)!r}; name another file"
                )
        return dict(found)

    def streamed(self, case: Case, engine: str) -> dict[str, Any] | None:
        """The row of an engine and a size; None where it is still to be measured."""
        row: dict[str, Any] | None = self._rows.get(_key(case, engine))
        if row is None or row["slices"] < self.plan.slices:
            return None
        return row if row["rate_per_s"] == self.plan.rate_of(case) else None

    def keep_streamed(self, case: Case, engine: str, row: dict[str, Any]) -> None:
        """Keep a row, on the disk at once."""
        self._keep(_key(case, engine), row)

    def references(self, case: Case) -> list[dict[str, Any]] | None:
        """The rows of a size by other methods; None where they are to be measured, also again."""
        key = _key(case, "references " + " ".join(self.plan.engines))
        rows: list[dict[str, Any]] | None = self._rows.get(key)
        return None if rows is None or any(map(may_come_yet, rows)) else rows

    def keep_references(self, case: Case, rows: list[dict[str, Any]]) -> None:
        """Keep them, on the disk at once."""
        self._keep(_key(case, "references " + " ".join(self.plan.engines)), rows)

    def _keep(self, key: str, value: Any) -> None:
        if self.path is None:
            return
        self._rows[key] = value
        told = {"format": FORMAT, "series": self._series, "rows": self._rows}
        write_whole(self.path, json_text(told, 2) + "\n")


def _key(case: Case, name: str) -> str:
    """Name of an entry in files that there are already: not to be changed with `Case.words`."""
    return f"{case.coils} coils, {case.matrix} x {case.matrix}, {name}"


def _series(plan: Plan) -> dict[str, Any]:
    """What all rows of a file have in common."""
    card = find_model(plan.model).card
    return {
        "format": FORMAT,
        "processor": processor(),
        "instructions": instructions(),
        "cores": cores(),
        "version": __version__,
        "packages": ", ".join(f"{n} {v}" for n, v in package_versions().items()),
        "model": f"{card.name} {card.checksum}",
        "threads": plan.threads,
        "maps": plan.maps,
        "deadline": plan.deadline_ms,
        "set_deadline": plan.set_deadline,
    }
