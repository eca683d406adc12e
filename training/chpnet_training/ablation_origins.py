"""Where the finished runs of a study were trained, and how: as their checkpoints say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chpnet_training.ablation import runs_of
from chpnet_training.checkpoint import read_checkpoint
from chpnet_training.machine import NOT_RECORDED
from chpnet_training.study import Study
from chpnet_training.trainer import CHECKPOINT


@dataclass(frozen=True)
class Trained:
    """One finished run.

    Attributes:
        run: Its name.
        arm: "teacher", "unet" or an arm of the study.
        seed: Of its recipe.
        steps: Optimizer steps that it made.
        hardware: What it was trained on, in order.
        precision: Value of --precision.
        adopted: Whether it is a teacher that was not trained for this study.
    """

    run: str
    arm: str
    seed: int
    steps: int
    hardware: tuple[str, ...]
    precision: str
    adopted: bool


def trained_runs(study: Study, folder: Path) -> list[Trained]:
    """All finished runs, in the order of `runs_of`.

    Raises:
        CheckpointError: If the checkpoint of one can't be read.
    """
    found = []
    for run in runs_of(study):
        if not run.is_done(folder):
            continue
        state = read_checkpoint(folder / run.name / CHECKPOINT)
        found.append(
            Trained(
                run.name,
                run.arm,
                int(state["recipe"]["seed"]),
                int(state["step"]),
                tuple(state.get("hardware", (NOT_RECORDED,))),
                str(state.get("arithmetic", NOT_RECORDED)),
                run.is_adopted(folder),
            )
        )
    return found


def table_of_training(runs: Sequence[Trained]) -> list[str]:
    """Lines of a Markdown table with a row for each arm; none where nothing is finished."""
    if not runs:
        return []
    lines = ["| arm | runs | steps | trained on | precision |", "|---|---:|---:|---|---|"]
    for arm in dict.fromkeys(one.arm for one in runs):
        ours = [one for one in runs if one.arm == arm]
        name = f"{arm}, taken from elsewhere" if any(one.adopted for one in ours) else arm
        steps = "; ".join(dict.fromkeys(f"{one.steps:,}" for one in ours))
        places = "; ".join(dict.fromkeys(", then ".join(one.hardware) for one in ours))
        precisions = "; ".join(dict.fromkeys(one.precision for one in ours))
        lines.append(f"| {name} | {len(ours)} | {steps} | {places} | {precisions} |")
    return [*lines, ""]
