"""Scores of an ablation: every finished network on every condition, slice by slice."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chpnet_training.ablation import runs_of
from chpnet_training.csv_file import write_rows
from chpnet_training.study import Condition, Study
from chpnet_training.trainer import CHECKPOINT

if TYPE_CHECKING:
    import torch

    from chpnet_training.bank import SourceBank

SCORES = "scores.csv"
MEASURES = ("psnr", "ssim", "nmse", "hfen")
"""Columns of it with what a report tells: `validation.score_images`, and `scoring.hfen`."""


def score_all(
    study: Study, data: Path, folder: Path, device: torch.device | None = None
) -> list[dict[str, Any]]:
    """Score every finished network on every condition, slice by slice; keeps `scores.csv`.

    The slices are those of `unseen`: the validation does not look at them. Scores are written
    network by network: a command that was ended goes on there.

    Rows whose fingerprint is another one are scored again: the condition, the images or the
    network have changed under the same name. Rows of networks or conditions that the study does
    not have (any more) stay in the file, for the study that has them.

    Args:
        study: The study.
        data: File of training images.
        folder: Of the study.
        device: Where the networks run, in float32; the CPU if None.

    Returns:
        Rows of `scores.csv` that belong to the study: network, arm, seed, condition, split, slice,
        psnr, ssim, nmse, hfen, fingerprint.
    """
    from chpnet_training.bank import SourceBank

    path = folder / SCORES
    done = {run.name for run in runs_of(study) if run.is_done(folder)}
    networks, bank = list(networks_of(study, folder, done)), SourceBank.load(data)
    rows = read_scores(path)
    asked = {(item.label, condition.name) for item in networks for condition in study.conditions}
    for condition in study.conditions:
        test = _describe_test(study, condition, bank)
        marks = {item.label: item.fingerprint(test) for item in networks}
        known = {
            row["network"]
            for row in rows
            if row["condition"] == condition.name
            and marks.get(row["network"]) == row.get("fingerprint")
        }
        wanted = [item for item in networks if item.label not in known]
        if wanted:
            old = {(item.label, condition.name) for item in wanted}
            rows = [row for row in rows if (row["network"], row["condition"]) not in old]
            for scored in _score_condition(study, condition, wanted, data, marks, device):
                rows += scored
                write_rows(path, rows)
    return [row for row in rows if (row["network"], row["condition"]) in asked]


def _describe_test(study: Study, condition: Condition, bank: SourceBank) -> str:
    """All that determines the test slices of a condition, and what is measured on them."""
    from chpnet_training.dataset import describe_data
    from chpnet_training.unseen import UNSEEN, unseen_split

    recipe = study.condition_recipe(condition)
    drawn = f"{unseen_split(bank, recipe)} {UNSEEN} {' '.join(MEASURES)}"
    return f"{describe_data(recipe)} {study.test_slices} {bank.checksum} {drawn}"


@dataclass(frozen=True)
class Scored:
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

    def fingerprint(self, test: str) -> str:
        """Of the scores on a test: changes with the test, and with the weights."""
        total = hashlib.sha256(test.encode())
        if self.checkpoint is not None:
            total.update(self.checkpoint.read_bytes())
        return total.hexdigest()[:16]


def networks_of(study: Study, folder: Path, done: Container[str]) -> Iterator[Scored]:
    """Everything that can be scored.

    Args:
        study: The study.
        folder: Of the study.
        done: Names of its finished runs.
    """
    yield Scored("start", "start", 0)
    for run in runs_of(study):
        if run.name not in done:
            continue
        file = folder / run.name / CHECKPOINT
        yield Scored(run.name, run.arm, run.seed, file, run.network)
        how = run.recipe.distillation
        if run.network == "student" and how.weight > 0 and (how.parameters or how.structure):
            after = f"teacher after {run.arm}"
            yield Scored(f"{run.name} teacher", after, run.seed, file, "teacher")


def _score_condition(
    study: Study,
    condition: Condition,
    wanted: list[Scored],
    data: Path,
    marks: dict[str, str],
    device: torch.device | None,
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each of the networks, one after the other."""
    import torch

    from chpnet_training.losses import magnitude
    from chpnet_training.runs import evaluated_network
    from chpnet_training.scoring import hfen
    from chpnet_training.unseen import UnseenSlices
    from chpnet_training.validation import batches_of, score_images

    here = device or torch.device("cpu")
    if here.type == "cuda":  # float32 convolutions mean float32, as on a CPU
        torch.backends.cudnn.allow_tf32 = False
    recipe = study.condition_recipe(condition)
    slices = UnseenSlices(data, recipe)
    batches = batches_of(slices, study.test_slices, recipe.data.batch, here)
    for item in wanted:
        network = None
        if item.checkpoint is not None:
            network = evaluated_network(item.checkpoint, item.network)[0].to(here)
        rows: list[dict[str, Any]] = []
        for batch in batches:
            image = batch.start
            if network is not None:
                with torch.no_grad():
                    image = network(batch.start, batch.adjoint, batch.normal, batch.noise)
            image, target = image.cpu(), batch.target.cpu()
            scores = score_images(image, target)
            pairs = zip(magnitude(image)[:, 0], magnitude(target)[:, 0], strict=True)
            scores["hfen"] = torch.tensor([hfen(one, two) for one, two in pairs])
            for i in range(len(image)):
                row: dict[str, Any] = {"network": item.label, "arm": item.arm, "seed": item.seed}
                row |= {"condition": condition.name, "split": slices.split, "slice": len(rows)}
                row |= {key: float(value[i]) for key, value in scores.items()}
                rows.append(row | {"fingerprint": marks[item.label]})
        yield rows


def read_scores(path: Path) -> list[dict[str, Any]]:
    """Rows of a `scores.csv`; none where there is no file."""
    if not path.exists():
        return []
    kinds: dict[str, Any] = dict.fromkeys(
        ("network", "arm", "condition", "split", "fingerprint"), str
    )
    kinds |= {"seed": int, "slice": int}
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: kinds.get(key, float)(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
