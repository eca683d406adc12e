"""What a run writes about itself: a CSV for machines, TensorBoard for people."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

from chpnet_training.csv_file import write_rows
from chpnet_training.curves import Curves

logger = logging.getLogger(__name__)

VALIDATION = "validation.csv"


class RunLog:
    """Means of what the learner reports between two validations, and the scores of these.

    Rows that an earlier process wrote after the checkpoint are dropped.

    Args:
        folder: Of the run.
        step: Step of the checkpoint that is continued.
        enabled: False on all processes but the first.
    """

    def __init__(self, folder: Path, step: int, *, enabled: bool = True) -> None:
        self.path = folder / VALIDATION
        self.enabled = enabled
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._curves: Curves | None = Curves(folder / "tensorboard")
        if enabled:
            self._forget_after(step)

    def add(self, told: dict[str, float]) -> None:
        """Take the report of a step."""
        for key, value in told.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1

    def write(self, step: int, scores: dict[str, float]) -> None:
        """Write a row: the scores, and the means since the last one."""
        means = {key: total / self.counts[key] for key, total in self.sums.items()}
        self.sums, self.counts = {}, {}
        if not self.enabled:
            return
        row = {"step": float(step), **scores, **{f"train_{k}": v for k, v in means.items()}}
        rows = [*self._rows(), {key: repr(value) for key, value in row.items()}]
        write_rows(self.path, rows)
        shown = {f"validation/{key}": value for key, value in scores.items()}
        self._show(step, shown | {f"training/{key}": value for key, value in means.items()})

    def state_dict(self) -> dict[str, Any]:
        """Means that were begun: a resumed run writes the same rows."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]

    def _forget_after(self, step: int) -> None:
        rows = self._rows()
        kept = [row for row in rows if float(row["step"]) <= step]
        if len(kept) < len(rows):
            write_rows(self.path, kept)

    def _show(self, step: int, values: dict[str, float]) -> None:
        """Draw on; a training is not ended for its curves."""
        if self._curves is None:
            return
        try:
            self._curves.write(step, values)
        except OSError as error:
            logger.warning(
                "can't write %s (%s): TensorBoard shows nothing from step %d on, %s has it all",
                self._curves.path,
                error.strerror or error,
                step,
                self.path,
            )
            self._curves = None
