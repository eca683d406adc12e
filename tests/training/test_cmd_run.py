"""`chpnet-train run`: from nothing to a scored model, stopped on the way, and once more."""

import json
import os
from pathlib import Path

import pytest

from chpnet_stream.network.weights import find_model
from chpnet_training.cli import main
from chpnet_training.options import EXIT_UNFINISHED
from tests.training.test_cli import QUICK, TINY
from tests.training.tiny_runs import state_of

SETTINGS = TINY | {
    "teacher.width": "8",
    "teacher.window": "4",
    "teacher.blocks": "1",
    "teacher.iterations": "1",
    "warmup.steps": "3",
    "warmup.warmup": "1",
}


def run(capsys, *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["run", str(QUICK), "--workers", "0", "--phantoms", "2", *map(str, words)])
    told = capsys.readouterr()
    return stop.value.code, told.out, told.err


def words_for(folder: Path, **changes: str) -> list[str]:
    words = ["--out", str(folder)]
    for key, value in (SETTINGS | changes).items():
        words += ["--set", f"{key}={value}"]
    return words


def test_everything_in_order_stopped_on_the_way_and_once_more(tmp_path, capsys):
    words = words_for(tmp_path)
    code, out, err = run(capsys, *words, "--max-time", "0s")
    assert code == EXIT_UNFINISHED
    assert "[2/5] the teacher" in err
    assert "[3/5]" not in err
    assert "not finished: the same command continues" in err
    assert state_of(tmp_path / "teacher")["step"] == 1
    code, out, err = run(capsys, *words, "--json")
    assert code == 0
    assert "[1/5]" not in err  # the data are there
    assert f"{tmp_path / 'teacher'} is continued after step 1" in err
    found = json.loads(out)
    scores = {row["method"]: row for row in found["methods"]}
    assert {"zero-filled", "cg-sense", "chpnet", "teacher"} <= scores.keys()
    assert scores["cg-sense"]["psnr_db"] > scores["zero-filled"]["psnr_db"]
    model = find_model(found["card"])
    model.verify()
    assert model.card.training == (
        "distilled on simulated scans from a teacher that learned while it taught"
    )
    assert [source.name for source in model.card.data] == ["phantoms"]
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")
    checkpoint = tmp_path / "student" / "last.ckpt"
    made = checkpoint.stat()
    os.utime(checkpoint)  # as if it were newer than its model
    code, _, err = run(capsys, *words, "--max-time", "0s")
    os.utime(checkpoint, ns=(made.st_atime_ns, made.st_mtime_ns))
    assert code == EXIT_UNFINISHED
    assert "is finished after step 4" in err
    assert "[4/5]" not in err  # neither model nor scores are begun when the time is over
    assert "not finished: the same command continues" in err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    code, out, err = run(capsys, *words, "--json", "--max-time", "0s")  # nothing is left to do
    assert code == 0
    assert json.loads(out) == found
    assert f"{tmp_path / 'student'} is finished after step 4" in err
    code, _, err = run(capsys, *words, "--phantoms", "3")
    assert code == 2
    assert "expected 3 simulated heads (--phantoms), found 2; give --phantoms 2" in err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == (
        before
    )


def test_a_student_alone_has_no_teacher(tmp_path, capsys):
    words = words_for(tmp_path, **{"distillation.weight": "0", "optimizer.steps": "2"})
    code, _, err = run(capsys, *words, "--max-time", "0s")
    assert code == EXIT_UNFINISHED
    assert "[2/5]" not in err
    assert "[3/5] the student\n" in err
    assert not (tmp_path / "teacher").exists()


def test_a_student_that_ends_early_is_exported_at_its_best(tmp_path, capsys):
    settings = {
        "distillation.weight": "0",
        "optimizer.steps": "60",
        "optimizer.learning_rate": "0.1",
        "optimizer.warmup": "0",
        "optimizer.average": "0",
        "validation.every": "1",
        "validation.patience": "2",
    }
    code, out, err = run(capsys, *words_for(tmp_path, **settings), "--json")
    assert code == 0
    assert "stopped early" in err
    last, best = state_of(tmp_path / "student"), state_of(tmp_path / "student", "best.ckpt")
    assert best["step"] == last["step"] - 2 < 58
    card = find_model(json.loads(out)["card"]).card
    assert card.steps == best["step"]
    scores = card.metrics["simulated scans, held-out images"]
    assert scores["psnr_db"] == pytest.approx(best["best"], abs=0.05)


def test_patience_is_refused_before_anything_is_made(tmp_path, capsys):
    code, _, err = run(capsys, *words_for(tmp_path / "out", **{"validation.patience": "2"}))
    assert code == 2
    assert "expected validation.patience = 0 for distillation, found 2" in err
    assert not (tmp_path / "out").exists()


def test_another_task_is_refused(tmp_path, capsys):
    code, _, err = run(capsys, "--out", tmp_path, "--set", "student.task=superres")
    assert code == 2
    assert "expected a recipe for the task 'kspace', found 'superres'" in err
    assert not list(tmp_path.iterdir())
