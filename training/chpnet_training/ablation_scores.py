"""Scores of an ablation: every finished network on every condition, slice by slice."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chpnet_training.ablation import DONE, runs_of
from chpnet_training.study import Study
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
            item for item in _networks(study, folder) if (item[0], condition.name) not in known
        ]
        if not wanted:
            continue
        rows += _score_condition(study, condition.name, wanted, data, folder)
        part = path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        part.replace(path)
    return rows


def _networks(study: Study, folder: Path) -> Iterator[tuple[str, str, int, str]]:
    """Name, arm, seed and network of everything that can be scored."""
    yield "start", "start", 0, ""
    for run in runs_of(study):
        if not (folder / run.name / DONE).exists():
            continue
        kind = run.arm if run.arm in ("teacher", "unet") else "student"
        yield run.name, run.arm, run.seed, kind
        how = run.recipe.distillation
        if kind == "student" and how.weight > 0 and (how.parameters or how.structure):
            yield f"{run.name} teacher", f"teacher after {run.arm}", run.seed, "teacher"


def _score_condition(
    study: Study, name: str, wanted: list[tuple[str, str, int, str]], data: Path, folder: Path
) -> list[dict[str, Any]]:
    import torch

    from chpnet_training.runs import evaluated_network, validation_batches
    from chpnet_training.validation import score_images

    condition = next(c for c in study.conditions if c.name == name)
    batches = validation_batches(study.condition_recipe(condition), data)
    rows: list[dict[str, Any]] = []
    for label, arm, seed, kind in wanted:
        place = folder / label.removesuffix(" teacher") / CHECKPOINT
        network = evaluated_network(place, kind)[0] if kind else None
        number = 0
        for batch in batches:
            image = batch.start
            if network is not None:
                with torch.no_grad():
                    image = network(batch.start, batch.adjoint, batch.normal, batch.noise)
            scores = score_images(image, batch.target)
            for i in range(len(image)):
                row: dict[str, Any] = {"network": label, "arm": arm, "seed": seed}
                row |= {"condition": name, "slice": number}
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
