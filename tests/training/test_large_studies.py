"""The studies for a GPU: what they promise, and a rehearsal of them on the CPU."""

import importlib
import json
import re
from pathlib import Path

import pytest

from chpnet_stream.network.config import StudentConfig
from chpnet_training.cli import main
from chpnet_training.machine import processor
from chpnet_training.macs import macs_of_recipe
from chpnet_training.options import EXIT_UNFINISHED
from chpnet_training.runs import build_network
from chpnet_training.study import load_study
from tests.training.tiny import tiny_bank

FOLDER = Path(__file__).parents[2] / "configs" / "training"
RT, PAPER = (FOLDER / f"ablation-large-{student}.yaml" for student in ("rt", "paper"))
BOTH = pytest.mark.parametrize("path", [RT, PAPER], ids=lambda path: path.name)

TINY = {
    "seeds": "[0]",
    "test_slices": "2",
    "recipe.data.batch": "2",
    "recipe.data.fixed": "4",
    "recipe.student.widths": "[4, 8]",
    "recipe.student.iterations": "1",
    "recipe.teacher.width": "8",
    "recipe.teacher.heads": "2",
    "recipe.teacher.blocks": "1",
    "recipe.teacher.window": "4",
    "recipe.teacher.iterations": "1",
    "recipe.unet.widths": "[4, 8]",
    "recipe.simulation.matrix_y": "[32, 32]",
    "recipe.simulation.matrix_x": "[32, 32]",
    "recipe.simulation.strip": "24",
    "recipe.simulation.coils": "[4, 4]",
    "recipe.simulation.virtual_coils": "4",
    "recipe.simulation.calibration": "[12, 12]",
    "recipe.warmup.steps": "2",
    "recipe.warmup.warmup": "1",
    "recipe.optimizer.steps": "4",
    "recipe.optimizer.warmup": "1",
    "recipe.validation.slices": "2",
    "recipe.validation.every": "2",
}


def test_they_differ_in_the_student_and_its_unet_only():
    one, two = (load_study(path).model_dump(mode="json") for path in (RT, PAPER))
    recipes = one.pop("recipe"), two.pop("recipe")
    assert {key for key in one if one[key] != two[key]} == {"name", "title"}
    changed = {key for key in recipes[0] if recipes[0][key] != recipes[1][key]}
    assert changed == {"name", "student", "unet"}


def test_the_sizes_that_their_comments_say():
    assert load_study(PAPER).recipe.student == StudentConfig.paper()
    recipe = load_study(RT).recipe
    assert recipe.student == StudentConfig()
    for name, millions in (("student", 2.2), ("teacher", 9.7)):
        weights = sum(p.numel() for p in build_network(recipe, name).parameters())
        assert weights / 1e6 == pytest.approx(millions, abs=0.05)
    student = build_network(load_study(PAPER).recipe, "student")
    assert macs_of_recipe(student, load_study(PAPER).recipe) / 1e9 == pytest.approx(32.8, abs=0.05)


@BOTH
def test_the_unet_has_the_arithmetic_of_the_student(path):
    recipe = load_study(path).recipe
    student, unet = (
        macs_of_recipe(build_network(recipe, name), recipe) for name in ("student", "unet")
    )
    assert unet == pytest.approx(student, rel=0.02)


@BOTH
def test_the_commands_of_their_comments_have_options_that_there_are(path):
    comment = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:1] == "#"]
    text = "\n".join(line[1:] for line in comment)
    commands = re.findall(r"^   chpnet-train (\w+) (.*(?:\n     .*)*)", text, re.M)
    assert "ablate" in dict(commands)
    for verb, words in commands:
        command = importlib.import_module(f"chpnet_training.cmd_{verb}").command
        known = {name for param in command.params for name in param.opts}
        given = re.findall(r"--[a-z-]+", words)
        assert given
        assert set(given) <= known, verb
        for study in re.findall(r"\S+\.yaml", words):
            assert (FOLDER.parents[1] / study).is_file()


def ablate(path: Path, bank: Path, out: Path, *more: str, **settings: str) -> int:
    words = ["ablate", str(path), "--data", str(bank), "--out", str(out), "--accelerator", "cpu"]
    words += ["--precision", "bf16-mixed", "--workers", "2", "--jobs", "2", "--threads", "1", *more]
    for key, value in (TINY | settings).items():
        words += ["--set", f"{key}={value}"]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Path:
    return tiny_bank(tmp_path_factory.mktemp("bank") / "bank.h5")


@pytest.fixture(scope="module")
def rehearsed(bank, tmp_path_factory) -> Path:
    """The study with chpnet-rt, in two pieces."""
    out = tmp_path_factory.mktemp("rt")
    few = {"arms": "{none: {weight: 0.0, hints: 0.0}, dynamic: {}}"}
    assert ablate(RT, bank, out, "--max-time", "0s", **few) == EXIT_UNFINISHED
    assert not (out / "teacher").exists()
    assert ablate(RT, bank, out, **few) == 0
    return out


def test_a_rehearsal_with_a_teacher_of_its_own(rehearsed):
    content = json.loads((rehearsed / "ablation-large-rt.json").read_text(encoding="utf-8"))
    assert {cell["condition"] for cell in content["cells"]} == {"R = 4", "R = 8"}
    arms = {run["arm"]: run for run in content["runs"]}
    assert arms.keys() == {"teacher", "none", "dynamic", "unet"}
    for arm, run in arms.items():
        assert run["precision"] == "bf16-mixed"
        assert run["hardware"] == [processor()]
        assert run["steps"] == (2 if arm == "teacher" else 4)
    text = (rehearsed / "ablation-large-rt.md").read_text(encoding="utf-8")
    assert f"| dynamic | 1 | 4 | {processor()} | bf16-mixed |" in text.splitlines()
    assert "--accelerator cpu --precision bf16-mixed --workers 2`" in text


def test_a_rehearsal_with_that_teacher(rehearsed, bank, tmp_path):
    """Its weights are enough: what is brought back from another machine."""
    few = {"arms": "{dynamic: {}}", "unet": "false"}
    teacher = ("--teacher", str(rehearsed / "teacher" / "best.ckpt"))
    assert ablate(PAPER, bank, tmp_path, *teacher, **few) == 0
    content = json.loads((tmp_path / "ablation-large-paper.json").read_text(encoding="utf-8"))
    assert [(run["arm"], run["adopted"]) for run in content["runs"]] == [
        ("teacher", True),
        ("dynamic", False),
    ]
    assert (tmp_path / "ablation-large-paper-images.png").exists()
