"""The loop: reports, files, resumption to the same bits, ends."""

import csv
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from chpnet_stream.errors import ConfigurationError
from chpnet_training.bank import SourceBank
from chpnet_training.machine import processor
from chpnet_training.optimization import TrainingError
from chpnet_training.trainer import BEST, CHECKPOINT
from tests.training.tiny import tiny_bank
from tests.training.tiny_runs import (
    KINDS,
    assert_same,
    cpu,
    make_run,
    recipe_for_all,
    spoil,
    state_of,
)

CHECKOUT = Path(__file__).parents[2]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)

KILLED_WHILE_SAVING = """
import os, signal, sys
from pathlib import Path
import torch
from tests.training.tiny_runs import make_run, recipe_for_all

torch.set_num_threads(1)
kind, bank, folder, teacher = sys.argv[1], *map(Path, sys.argv[2:])
replace, seen = Path.replace, []

def die_in_the_middle(part, target):
    if Path(target).name == "last.ckpt":
        seen.append(part)
        if len(seen) == 2:
            os.truncate(part, os.path.getsize(part) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
    return replace(part, target)

Path.replace = die_in_the_middle
make_run(kind, recipe_for_all(), bank, folder, teacher=teacher).run()
"""


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("bank") / "bank.h5")


@pytest.fixture(scope="module")
def uninterrupted(bank, tmp_path_factory):
    """Folders of finished runs by kind; the teacher of `distill` is that of `teacher`."""
    folders = {}
    for kind in ("teacher", "student", "distill"):
        folder = tmp_path_factory.mktemp(kind)
        teacher = folders["teacher"] / CHECKPOINT if kind == "distill" else None
        assert make_run(kind, recipe_for_all(), bank, folder, teacher=teacher).run()
        folders[kind] = folder
    return folders


def teacher_of(uninterrupted) -> Path:
    return uninterrupted["teacher"] / CHECKPOINT


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "validation.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_same_run(one: Path, two: Path) -> None:
    for name in (CHECKPOINT, BEST):
        assert_same(state_of(one, name), state_of(two, name), name)
    text = (one / "validation.csv").read_text(encoding="utf-8")
    assert (two / "validation.csv").read_text(encoding="utf-8") == text


def test_a_run_reports_logs_and_saves(bank, tmp_path):
    reports = []
    trainer = make_run("student", recipe_for_all(), bank, tmp_path)
    assert trainer.run(reports.append)
    assert [r.step for r in reports] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(r.loss) and r.seconds_per_step > 0 for r in reports)
    assert math.isnan(reports[0].psnr)
    assert reports[-1].psnr > 5
    rows = rows_of(tmp_path)
    assert [float(row["step"]) for row in rows] == [2, 4, 6]
    assert float(rows[-1]["psnr"]) == reports[-1].psnr
    assert float(rows[-1]["train_loss"]) == pytest.approx((reports[4].loss + reports[5].loss) / 2)
    assert 0 < float(rows[0]["start_ssim"]) < 1
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [BEST, CHECKPOINT, "tensorboard", "validation.csv"]
    state = state_of(tmp_path)
    assert state["step"] == 6
    assert state["recipe"] == recipe_for_all().model_dump(mode="json")


@EVERY_KIND
def test_stopped_and_continued_is_the_same_run(bank, tmp_path, uninterrupted, kind):
    """Stopped by the clock after every step."""
    finished, starts = False, 0
    while not finished:
        trainer = make_run(
            kind, recipe_for_all(), bank, tmp_path, teacher=teacher_of(uninterrupted)
        )
        assert trainer.step == starts
        finished = trainer.run(max_seconds=0.0)
        starts += 1
    assert starts == 6
    assert_same_run(tmp_path, uninterrupted[kind])


@pytest.mark.parametrize("kind", ["distill"])
def test_killed_while_saving_and_continued_is_the_same_run(bank, tmp_path, uninterrupted, kind):
    words = [kind, str(bank), str(tmp_path), str(teacher_of(uninterrupted))]
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_SAVING, *words],
        cwd=CHECKOUT,
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert state_of(tmp_path)["step"] == 2  # the half-written file did not replace it
    assert len(rows_of(tmp_path)) == 2  # and the log was ahead of it
    trainer = make_run(kind, recipe_for_all(), bank, tmp_path, teacher=teacher_of(uninterrupted))
    assert trainer.step == 2
    assert len(rows_of(tmp_path)) == 1
    assert trainer.run()
    assert_same_run(tmp_path, uninterrupted[kind])
    assert not list(tmp_path.glob("*.part"))


def test_killed_in_the_middle_and_continued_is_the_same_run(bank, tmp_path):
    """A real process, killed at no special moment."""
    code = (
        "import sys; from pathlib import Path; import torch\n"
        "from tests.training.tiny_runs import make_run, recipe_for_all\n"
        "torch.set_num_threads(1)\n"
        "make_run('student', recipe_for_all(60, 3), *map(Path, sys.argv[1:])).run()"
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert make_run("student", recipe_for_all(60, 3), bank, whole).run()
    process = subprocess.Popen([sys.executable, "-c", code, str(bank), str(killed)], cwd=CHECKOUT)
    bound = time.monotonic() + 200
    while time.monotonic() < bound and not (killed / CHECKPOINT).exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 0 < state_of(killed)["step"] < 60
    assert make_run("student", recipe_for_all(60, 3), bank, killed).run()
    assert_same_run(killed, whole)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_worker_process_changes_nothing(bank, tmp_path, uninterrupted):
    assert make_run("student", recipe_for_all(), bank, tmp_path, workers=1).run()
    assert_same_run(tmp_path, uninterrupted["student"])


def test_a_finished_run_is_left_alone(bank, uninterrupted):
    folder = uninterrupted["student"]
    before = (folder / CHECKPOINT).read_bytes()
    assert make_run("student", recipe_for_all(), bank, folder).run()
    assert (folder / CHECKPOINT).read_bytes() == before


def test_another_seed_is_another_network_on_other_data(bank, tmp_path, uninterrupted):
    recipe = recipe_for_all().model_copy(update={"seed": 4})
    make_run("student", recipe, bank, tmp_path).run()
    one = state_of(tmp_path)
    two = state_of(uninterrupted["student"])
    pairs = zip(
        one["networks"]["student"].values(), two["networks"]["student"].values(), strict=True
    )
    assert not any(torch.equal(a, b) for a, b in pairs if a.numel() > 2)
    assert one["scores"]["start_psnr"] != two["scores"]["start_psnr"]


@EVERY_KIND
def test_training_learns(bank, tmp_path, uninterrupted, kind):
    """On noisy scans every network gains a decibel in 60 steps on what it starts from."""
    noisy = recipe_for_all(
        60,
        20,
        optimizer={"learning_rate": 4e-3, "warmup": 10, "average": 0.9},
        simulation={"noise": (0.08, 0.12), "accelerations": (3, 4)},
        student={"widths": (8, 16)},
        validation={"slices": 6},
        distillation={"weight": 0.3},
    )
    make_run(kind, noisy, bank, tmp_path, teacher=teacher_of(uninterrupted)).run()
    rows = rows_of(tmp_path)
    assert float(rows[-1]["psnr"]) > float(rows[0]["psnr"])
    assert float(rows[-1]["psnr"]) > float(rows[-1]["start_psnr"]) + 1
    assert float(rows[-1]["ssim"]) > float(rows[-1]["start_ssim"])
    assert float(rows[-1]["nmse"]) < float(rows[-1]["start_nmse"])


def test_the_best_checkpoint_is_that_of_the_best_validation(bank, tmp_path):
    """A learning rate that ruins the network: the best was early."""
    recipe = recipe_for_all(12, 2, optimizer={"learning_rate": 0.2, "warmup": 0, "average": 0.0})
    make_run("student", recipe, bank, tmp_path).run()
    rows = rows_of(tmp_path)
    best = max(rows, key=lambda row: float(row["psnr"]))
    state = state_of(tmp_path, BEST)
    assert float(best["step"]) < 12
    assert state["step"] == float(best["step"])
    assert state["best"] == float(best["psnr"]) == state_of(tmp_path)["best"]
    assert state["learner"] is None


def test_training_stops_where_nothing_gets_better(bank, tmp_path, caplog):
    recipe = recipe_for_all(
        1000,
        1,
        optimizer={"learning_rate": 0.05, "warmup": 0, "average": 0.0},
        validation={"patience": 3},
    )
    trainer = make_run("student", recipe, bank, tmp_path)
    assert trainer.run()
    assert "stopped early" in caplog.text
    stopped = trainer.step
    scores = [float(row["psnr"]) for row in rows_of(tmp_path)]
    assert len(scores) == stopped < 1000
    assert scores.index(max(scores)) == stopped - 1 - 3
    before = (tmp_path / CHECKPOINT).read_bytes()
    again = make_run("student", recipe, bank, tmp_path)
    assert again.step == stopped
    assert again.run()
    assert again.step == stopped
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_a_checkpoint_of_another_recipe_is_refused_and_the_difference_named(bank, uninterrupted):
    with pytest.raises(
        TrainingError, match=r"optimizer\.steps is 6 there and 7 here.*choose another --out"
    ):
        make_run("student", recipe_for_all(7), bank, uninterrupted["student"])


@pytest.mark.parametrize(
    ("kind", "wanted"), [("teacher", "teacher"), ("distill", "student and teacher")]
)
def test_a_run_of_another_kind_is_refused(bank, uninterrupted, kind, wanted):
    """The recipe of all of them is the same."""
    said = f"expected a run that trains the {wanted}, found one that trains the student; choose"
    with pytest.raises(TrainingError, match=said):
        make_run(
            kind,
            recipe_for_all(),
            bank,
            uninterrupted["student"],
            teacher=teacher_of(uninterrupted),
        )


def test_a_checkpoint_from_before_a_setting_came_is_continued(bank, tmp_path, uninterrupted):
    state = state_of(uninterrupted["student"])
    del state["recipe"]["validation"]["patience"]
    torch.save(state, tmp_path / CHECKPOINT)
    assert make_run("student", recipe_for_all(), bank, tmp_path).step == 6


@pytest.fixture(scope="module")
def other_bank(tmp_path_factory):
    """The same images, another of them held back."""
    path = tmp_path_factory.mktemp("other") / "other.h5"
    return tiny_bank(path, ("val", "train", "train", "train"))


@EVERY_KIND
def test_a_run_with_other_data_is_refused_and_both_are_named(bank, other_bank, uninterrupted, kind):
    before, now = (SourceBank.load(path).checksum[:12] for path in (bank, other_bank))
    said = (
        rf"--data other\.h5 \(checksum {now}\), found .* begun with bank\.h5 "
        rf"\(checksum {before}\); give the same file again, or choose another --out"
    )
    teacher = teacher_of(uninterrupted)
    with pytest.raises(TrainingError, match=said):
        make_run(kind, recipe_for_all(), other_bank, uninterrupted[kind], teacher=teacher)


def test_data_are_known_by_what_they_hold_and_not_by_their_name(bank, tmp_path, uninterrupted):
    moved = tmp_path / "renamed.h5"
    moved.write_bytes(bank.read_bytes())
    assert make_run("student", recipe_for_all(), moved, uninterrupted["student"]).step == 6


def test_a_run_of_other_data_is_refused_before_slices_are_simulated(bank, other_bank, tmp_path):
    recipe = recipe_for_all(data={"fixed": 4})
    make_run("student", recipe, bank, tmp_path).run(stop=lambda: True)
    (tmp_path / "data" / "train.pt").unlink()
    with pytest.raises(TrainingError, match="--data other"):
        make_run("student", recipe, other_bank, tmp_path)
    assert not (tmp_path / "data" / "train.pt").exists()


def test_a_checkpoint_that_does_not_say_its_data_is_continued_with_a_warning(
    bank, tmp_path, uninterrupted, caplog
):
    state = state_of(uninterrupted["student"])
    del state["given"], state["arithmetic"], state["about"]
    state["recipe"]["optimizer"]["steps"] = 8
    torch.save(state, tmp_path / CHECKPOINT)
    trainer = make_run("student", recipe_for_all(8), bank, tmp_path)
    assert "does not say which data it was trained with" in caplog.text
    caplog.clear()
    assert trainer.run()
    assert make_run("student", recipe_for_all(8), bank, tmp_path).step == 8
    assert not caplog.text


def test_what_a_card_tells_is_kept(bank, tmp_path):
    trainer = make_run("student", recipe_for_all(), bank, tmp_path)
    trainer.about = {"data": ["heads"]}
    trainer.run(stop=lambda: True)
    assert make_run("student", recipe_for_all(), bank, tmp_path).about == {"data": ["heads"]}


@pytest.mark.parametrize("frozen", [False, True])
def test_a_run_with_another_teacher_is_refused(bank, tmp_path, uninterrupted, frozen):
    learns = {"parameters": not frozen, "structure": not frozen}
    recipe = recipe_for_all(distillation=learns)
    run = tmp_path / "run"
    first = teacher_of(uninterrupted)
    make_run("distill", recipe, bank, run, teacher=first).run(stop=lambda: True)
    state = state_of(uninterrupted["teacher"])
    same = tmp_path / "same.ckpt"
    torch.save({**state, "step": 99}, same)  # the same weights in another file
    assert make_run("distill", recipe, bank, run, teacher=same).step == 1
    for weights in state["networks"]["teacher"].values():
        weights.mul_(1.5)
    other = tmp_path / "other.ckpt"
    torch.save(state, other)
    with pytest.raises(TrainingError, match=r"--teacher .*/other\.ckpt .*begun with .*last\.ckpt"):
        make_run("distill", recipe, bank, run, teacher=other)


def test_a_teacher_of_other_data_is_told(bank, other_bank, tmp_path, uninterrupted, caplog):
    make_run("distill", recipe_for_all(), bank, tmp_path / "a", teacher=teacher_of(uninterrupted))
    assert not caplog.text
    make_run(
        "distill", recipe_for_all(), other_bank, tmp_path / "b", teacher=teacher_of(uninterrupted)
    )
    assert "trained with bank.h5" in caplog.text
    assert "may have seen images that its student is scored on" in caplog.text


def test_a_checkpoint_tells_what_it_was_trained_on(bank, tmp_path, uninterrupted):
    state = state_of(uninterrupted["student"])
    assert state["hardware"] == [processor()]
    del state["hardware"]  # as older versions wrote it
    state["recipe"]["optimizer"]["steps"] = 8
    torch.save(state, tmp_path / CHECKPOINT)
    assert make_run("student", recipe_for_all(8), bank, tmp_path).run()
    assert state_of(tmp_path)["hardware"] == ["not recorded", processor()]


def test_a_run_in_another_precision_is_refused(bank, uninterrupted):
    with pytest.raises(
        TrainingError, match=r"--precision bf16-mixed, found .*begun with 32-true; give --precision"
    ):
        make_run(
            "student",
            recipe_for_all(),
            bank,
            uninterrupted["student"],
            fabric=cpu(precision="bf16-mixed"),
        )


def test_best_weights_alone_are_no_run_to_continue(bank, tmp_path, uninterrupted):
    best = (uninterrupted["student"] / BEST).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(best)
    with pytest.raises(TrainingError, match="--initial"):
        make_run("student", recipe_for_all(), bank, tmp_path)


def test_a_damaged_checkpoint_is_refused(bank, tmp_path, uninterrupted):
    content = (uninterrupted["student"] / CHECKPOINT).read_bytes()
    for damaged in (content[:1000], b"", b"not a checkpoint"):
        (tmp_path / CHECKPOINT).write_bytes(damaged)
        with pytest.raises(TrainingError, match="found a damaged file"):
            make_run("student", recipe_for_all(), bank, tmp_path)


@EVERY_KIND
def test_a_loss_that_is_not_finite_ends_the_run(bank, tmp_path, uninterrupted, kind):
    trainer = make_run(kind, recipe_for_all(), bank, tmp_path, teacher=teacher_of(uninterrupted))
    assert trainer.run(stop=lambda: True) is False
    kept = (tmp_path / CHECKPOINT).read_bytes()
    learner = trainer.learner
    spoil((learner.student if kind == "distill" else learner.guarded).network)
    before = [p.clone() for p in learner.evaluated.parameters()]
    name = "teacher" if kind == "teacher" else "student"
    with pytest.raises(
        TrainingError,
        match=rf"step 1, {name}: .*found loss.*not finite in \w+.*rate.*finetune RECIPE RUN/best",
    ):
        trainer.run()
    assert (tmp_path / CHECKPOINT).read_bytes() == kept
    assert all(map(torch.equal, before, learner.evaluated.parameters()))


def test_slices_of_different_matrices_are_no_step(bank, tmp_path):
    trainer = make_run("student", recipe_for_all(20, 20, data={"batch": 4}), bank, tmp_path)
    with pytest.raises(ConfigurationError, match="expected slices of one matrix"):
        trainer.run()
