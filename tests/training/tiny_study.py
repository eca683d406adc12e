"""A study that is trained in seconds: two arms, two seeds."""

from pathlib import Path
from typing import Any

import yaml

from chpnet_training.ablation import DONE, runs_of
from chpnet_training.runs import Materials, distillation_run, supervised_run
from chpnet_training.study import Study
from chpnet_training.trainer import CHECKPOINT
from tests.training.tiny_runs import cpu, recipe_for_all


def study_content(**changes: Any) -> dict[str, Any]:
    """What stands in the YAML file of the study."""
    recipe = recipe_for_all(4, 2).model_dump(mode="json")
    recipe["data"]["fixed"] = 4
    recipe["simulation"] |= {"matrix_y": [32, 32], "matrix_x": [24, 24]}
    return {
        "name": "tiny",
        "title": "Tiny study",
        "recipe": recipe,
        "seeds": [0, 1],
        "arms": {"none": {"weight": 0.0, "hints": 0.0}, "dynamic": {}},
        "unet": False,
        "conditions": [
            {"name": "R = 2", "settings": {"simulation.accelerations": [2]}},
            {"name": "R = 3", "settings": {"simulation.accelerations": [3]}},
        ],
        "test_slices": 2,
    } | changes


def tiny_study(**changes: Any) -> Study:
    """The study."""
    return Study.model_validate(study_content(**changes))


def write_study(path: Path, **changes: Any) -> Path:
    """Its file."""
    path.write_text(yaml.safe_dump(study_content(**changes), sort_keys=False), encoding="utf-8")
    return path


def train_here(study: Study, bank: Path, folder: Path) -> None:
    """Train all runs in this process, without the commands."""
    for run in runs_of(study):
        place = folder / run.name
        materials = Materials(cpu(), bank, place, cache=folder / "data")
        if run.verb == "distill":
            trainer = distillation_run(run.recipe, folder / "teacher" / CHECKPOINT, materials)
        else:
            name = {"teacher": "teacher", "unet": "unet"}.get(run.arm, "student")
            recipe = run.recipe.for_teacher() if name == "teacher" else run.recipe
            trainer = supervised_run(recipe, name, materials)
        assert trainer.run()
        (place / DONE).touch()
