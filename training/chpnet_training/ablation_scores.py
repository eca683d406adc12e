"""Scores of an ablation: every finished network on every condition, slice by slice."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chpnet_training.ablation import DONE, runs_of
from chpnet_training.csv_file import write_rows
from chpnet_training.study import Condition, Study
from chpnet_training.trainer import CHECKPOINT

SCORES = "scores.csv"


def score_all(study: Study, data: Path, folder: Path) -> list[dict[str, Any]]:
    """Score every finished network on every condition, slice by slice; keeps `scores.csv`.

    Returns:
        Rows of `scores.csv`: network, arm, seed, condition, slice, psnr, ssim, nmse.
    """
    path = folder / SCORES
    rows = read_scores(path)
    known = {(row["network"], row["condition"]) for row in rows}
    for condition in study.conditions:
        wanted = [
            item for item in _networks(study, folder) if (item.label, condition.name) not in known
        ]
        if wanted:
            rows += _score_condition(study, condition, wanted, data)
            write_rows(path, rows)
    return rows


@dataclass(frozen=True)
class _Scored:
    """A network to score.

    Attributes:
        label: Its name in the scores.
        arm: Its arm there.
        seed: Of its run.
        checkpoint: Its file; None for the images that all start from.
        network: Its name in that file.
    """

    label: str
    arm: str
    seed: int
    checkpoint: Path | None = None
    network: str = ""


def _networks(study: Study, folder: Path) -> Iterator[_Scored]:
    """Everything that can be scored."""
    yield _Scored("start", "start", 0)
    for run in runs_of(study):
        if not (folder / run.name / DONE).exists():
            continue
        file = folder / run.name / CHECKPOINT
        yield _Scored(run.name, run.arm, run.seed, file, run.network)
        how = run.recipe.distillation
        if run.network == "student" and how.weight > 0 and (how.parameters or how.structure):
            after = f"teacher after {run.arm}"
            yield _Scored(f"{run.name} teacher", after, run.seed, file, "teacher")


def _score_condition(
    study: Study, condition: Condition, wanted: list[_Scored], data: Path
) -> list[dict[str, Any]]:
    import torch

    from chpnet_training.runs import evaluated_network, validation_batches
    from chpnet_training.validation import score_images

    batches = validation_batches(study.condition_recipe(condition), data)
    rows: list[dict[str, Any]] = []
    for item in wanted:
        network = evaluated_network(item.checkpoint, item.network)[0] if item.checkpoint else None
        number = 0
        for batch in batches:
            image = batch.start
            if network is not None:
                with torch.no_grad():
                    image = network(batch.start, batch.adjoint, batch.normal, batch.noise)
            scores = score_images(image, batch.target)
            for i in range(len(image)):
                row: dict[str, Any] = {"network": item.label, "arm": item.arm, "seed": item.seed}
                row |= {"condition": condition.name, "slice": number}
                rows.append(row | {key: float(value[i]) for key, value in scores.items()})
                number += 1
    return rows


def read_scores(path: Path) -> list[dict[str, Any]]:
    """Rows of a `scores.csv`; none where there is no file."""
    if not path.exists():
        return []
    kinds = {"network": str, "arm": str, "condition": str, "seed": int, "slice": int}
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: kinds.get(key, float)(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
