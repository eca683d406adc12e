"""What a run writes about itself: a CSV for machines, TensorBoard for people."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from chpnet_training.csv_file import write_rows

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
        self._board: Any = None
        self._folder = folder
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
        board = self._tensorboard(step)
        for key, value in scores.items():
            board.add_scalar(f"validation/{key}", value, step)
        for key, value in means.items():
            board.add_scalar(f"training/{key}", value, step)
        board.flush()

    def state_dict(self) -> dict[str, Any]:
        """Means that were begun: a resumed run writes the same rows."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self._board is not None:
            self._board.close()
            self._board = None

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

    def _tensorboard(self, step: int) -> Any:
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            # what an earlier process showed from this step on is hidden
            self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step)
        return self._board
