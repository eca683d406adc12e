import csv
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from chpnet_training.train import (
    CHECKPOINT,
    MOST_SPIKES,
    Training,
    TrainingError,
    learning_rate,
    psnr,
)
from tests.training.tiny import tiny_bank, tiny_recipe

CHECKOUT = Path(__file__).parents[2]

KILLED_WHILE_SAVING = """
import os, signal, sys
from pathlib import Path
import torch
from chpnet_training import train
from tests.training.tiny import tiny_recipe

torch.set_num_threads(1)
save, saved = torch.save, []

def fail_at_the_second(state, path):
    save(state, path)
    saved.append(path)
    if len(saved) == 2:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

torch.save = fail_at_the_second
train.Training(tiny_recipe(), Path(sys.argv[1]), Path(sys.argv[2]), workers=0).run()
"""


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("bank") / "bank.npz")


def state_of(folder: Path) -> dict:
    return torch.load(folder / CHECKPOINT, weights_only=True)


def assert_same(one, two, place: str = "") -> None:
    """Bit for bit, at any depth."""
    assert type(one) is type(two), place
    if isinstance(one, dict):
        assert one.keys() == two.keys(), place
        for key in one:
            assert_same(one[key], two[key], f"{place}/{key}")
    elif isinstance(one, (list, tuple)):
        for i, (a, b) in enumerate(zip(one, two, strict=True)):
            assert_same(a, b, f"{place}/{i}")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two), place
    else:
        assert one == two, place


@pytest.fixture(scope="module")
def uninterrupted(bank, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    reports = []
    training = Training(tiny_recipe(), bank, folder, workers=0)
    assert training.run(reports.append)
    return folder, reports


def test_a_run_reports_logs_and_saves(uninterrupted):
    folder, reports = uninterrupted
    assert [r.step for r in reports] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(r.loss) and r.seconds_per_step > 0 for r in reports)
    assert math.isnan(reports[0].psnr)
    assert reports[-1].psnr > 5
    with (folder / "validation.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert float(rows[-1]["psnr"]) == pytest.approx(reports[-1].psnr)
    assert 0 < float(rows[0]["start_ssim"]) < 1
    assert sorted(p.name for p in folder.iterdir()) == [CHECKPOINT, "validation.csv"]
    state = state_of(folder)
    assert state["step"] == 6
    assert state["recipe"] == tiny_recipe().model_dump(mode="json")


def test_stopped_and_continued_is_the_same_run(bank, tmp_path, uninterrupted):
    """Stopped by the clock after every step, once with a worker process."""
    finished, starts = False, 0
    while not finished:
        training = Training(tiny_recipe(), bank, tmp_path, workers=0)
        assert training.step == starts
        finished = training.run(max_seconds=0.0)
        starts += 1
    assert starts == 6
    assert_same(state_of(tmp_path), state_of(uninterrupted[0]))


def test_killed_while_saving_and_continued_is_the_same_run(bank, tmp_path, uninterrupted):
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_SAVING, str(bank), str(tmp_path)],
        cwd=CHECKOUT,
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert state_of(tmp_path)["step"] == 2  # the half-written file did not replace it
    training = Training(tiny_recipe(), bank, tmp_path, workers=0)
    assert training.step == 2
    assert training.run()
    assert_same(state_of(tmp_path), state_of(uninterrupted[0]))
    same = (uninterrupted[0] / "validation.csv").read_text(encoding="utf-8")
    assert (tmp_path / "validation.csv").read_text(encoding="utf-8") == same


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_worker_process_changes_nothing(bank, tmp_path, uninterrupted):
    assert Training(tiny_recipe(), bank, tmp_path, workers=1).run()
    assert_same(state_of(tmp_path), state_of(uninterrupted[0]))


def test_a_finished_run_is_left_alone(bank, uninterrupted):
    folder, _ = uninterrupted
    before = (folder / CHECKPOINT).read_bytes()
    assert Training(tiny_recipe(), bank, folder, workers=0).run()
    assert (folder / CHECKPOINT).read_bytes() == before


def test_another_seed_is_another_network(bank, tmp_path, uninterrupted):
    recipe = tiny_recipe().model_copy(update={"seed": 4})
    Training(recipe, bank, tmp_path, workers=0).run()
    one, two = state_of(tmp_path)["student"], state_of(uninterrupted[0])["student"]
    assert not all(torch.equal(one[key], two[key]) for key in one)


def test_training_learns(bank, tmp_path):
    """Beyond the start: on noisy scans the averaged student gains a decibel in 60 steps."""
    recipe = tiny_recipe(steps=60, every=20, learning_rate=4e-3, warmup=10, average=0.9)
    noisy = {"noise": (0.08, 0.12), "accelerations": (3, 4)}
    recipe = recipe.model_copy(
        update={
            "simulation": recipe.simulation.model_copy(update=noisy),
            "student": recipe.student.model_copy(update={"widths": (8, 16)}),
            "validation": recipe.validation.model_copy(update={"slices": 6}),
        }
    )
    Training(recipe, bank, tmp_path, workers=0).run()
    with (tmp_path / "validation.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    scores = [float(row["psnr"]) for row in rows]
    assert scores == sorted(scores)
    assert scores[-1] > float(rows[-1]["start_psnr"]) + 1
    assert float(rows[-1]["ssim"]) > float(rows[-1]["start_ssim"])


def test_checkpoint_of_another_recipe_is_refused(bank, uninterrupted):
    folder, _ = uninterrupted
    with pytest.raises(TrainingError, match=r"found one of another .*choose another --out folder"):
        Training(tiny_recipe(steps=7), bank, folder, workers=0)


def test_damaged_checkpoint_is_refused(bank, tmp_path, uninterrupted):
    content = (uninterrupted[0] / CHECKPOINT).read_bytes()
    for damaged in (content[:1000], b"", b"not a checkpoint"):
        (tmp_path / CHECKPOINT).write_bytes(damaged)
        with pytest.raises(TrainingError, match="found a damaged file"):
            Training(tiny_recipe(), bank, tmp_path, workers=0)


def test_a_loss_that_is_not_finite_ends_the_run(bank, tmp_path):
    training = Training(tiny_recipe(), bank, tmp_path, workers=0)
    with torch.no_grad():
        next(training.student.parameters()).fill_(math.inf)
    before = [p.clone() for p in training.average.parameters()]
    with pytest.raises(TrainingError, match=r"step 0: expected a finite loss .*learning_rate"):
        training.run()
    assert not (tmp_path / CHECKPOINT).exists()
    assert all(map(torch.equal, before, training.average.parameters()))


def test_learning_rate_warms_up_and_goes_down():
    recipe = tiny_recipe(steps=100, warmup=10, learning_rate=1e-3)
    rates = [learning_rate(step, recipe) for step in range(101)]
    assert rates[:10] == pytest.approx([1e-4 * (i + 1) for i in range(10)])
    assert max(rates) == pytest.approx(1e-3)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(1e-3 * (0.01 + 0.99 / 2))
    assert rates[100] == pytest.approx(1e-5)
    assert learning_rate(500, recipe) == pytest.approx(1e-5)


def test_psnr():
    target = torch.ones(2, 1, 4, 4)
    target[1] *= 2
    assert psnr(target + 0.1, target).tolist() == pytest.approx([20, 26.02], abs=0.01)


def test_a_run_begins_with_the_averaged_weights_of_another(bank, tmp_path, uninterrupted):
    folder = uninterrupted if isinstance(uninterrupted, Path) else uninterrupted[0]
    begun = Training(tiny_recipe(), bank, tmp_path, workers=0, initial=folder / CHECKPOINT)
    assert begun.step == 0
    assert_same(dict(begun.average.state_dict()), dict(state_of(folder)["average"]))


def test_weights_of_another_student_are_no_beginning(bank, tmp_path, uninterrupted):
    folder = uninterrupted if isinstance(uninterrupted, Path) else uninterrupted[0]
    recipe = tiny_recipe()
    wider = recipe.student.model_copy(update={"widths": (16, 16)})
    with pytest.raises(TrainingError, match="those of another student"):
        Training(
            recipe.model_copy(update={"student": wider}),
            bank,
            tmp_path,
            workers=0,
            initial=folder / CHECKPOINT,
        )


def test_a_gradient_far_above_the_usual_is_left_out(bank, tmp_path):
    training = Training(tiny_recipe(), bank, tmp_path, workers=0)
    assert not training._is_spike(1.0)
    training.step = 60
    assert training._is_spike(9.0)
    assert training.usual_gradient == 1.0
    assert not training._is_spike(2.0)
    assert training.usual_gradient > 1.0
    assert all(training._is_spike(100.0) for _ in range(MOST_SPIKES - 1))
    with pytest.raises(TrainingError, match="in a row"):
        training._is_spike(100.0)
