import json
import shutil

import pytest
import torch
from click.testing import CliRunner

from chpnet_training.ablation import DONE
from chpnet_training.bank import SourceBank
from chpnet_training.cli import main
from chpnet_training.cmd_ablate import command
from chpnet_training.trainer import CHECKPOINT
from tests.training.tiny_study import write_study


def run(*words: object):
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["ablate", "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for word in ("STUDY", "--jobs", "--teacher", "--report", "--max-time", "--precision"):
        assert word in said


def test_a_misspelt_switch_is_refused_before_anything_is_trained(tmp_path, capsys):
    file = write_study(tmp_path / "study.yaml", arms={"dynamic": {"struktur": True}})
    with pytest.raises(SystemExit) as stop:
        main(["ablate", str(file), "--data", "none.h5", "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert "did you mean 'structure'? (in the arm 'dynamic')" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def study_copy(finished_study, tmp_path):
    bank, folder = finished_study
    shutil.copytree(folder, tmp_path / "out")
    return bank, tmp_path / "out"


def test_a_finished_study_is_scored_and_reported(study_copy, tmp_path):
    bank, folder = study_copy
    file = write_study(tmp_path / "study.yaml", unet=True)
    words = (file, "--data", bank, "--out", folder, "--report", tmp_path / "report")
    said = run(*words, "--json", "--set", "title=A [new] title")
    assert said.exit_code == 0
    table = json.loads(said.stdout)
    assert [row["arm"] for row in table if row["condition"] == "R = 2"] == [
        "start",
        "unet",
        "none",
        "dynamic",
        "teacher",
        "teacher after dynamic",
    ]
    assert {row["seeds"] for row in table if row["arm"] in ("none", "dynamic")} == {2}
    assert next(row for row in table if row["arm"] == "teacher")["spread_db"] is None
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {"tiny.md", "tiny.json", "tiny-curves.png", "tiny-images.png"}
    text = (tmp_path / "report" / "tiny.md").read_text(encoding="utf-8")
    assert text.startswith("# A [new] title\n")
    assert "![tiny-images.png](tiny-images.png)" in text
    assert "`chpnet-train ablate study.yaml --set 'title=A [new] title' --data DATA" in text
    assert str(tmp_path) not in text
    checksum = SourceBank.load(bank).checksum
    assert f"DATA by `chpnet-train prepare` of phantom (checksum {checksum})." in text
    none = next(row for row in table if (row["arm"], row["condition"]) == ("none", "R = 3"))
    assert f"| none | 2 | {none['psnr_db']:.2f} ± {none['spread_db']:.2f} |" in text

    assert "| teacher | 1 | 4 | " in text  # what it was trained on follows
    again = run(*words, "--workers", 2)
    assert again.exit_code == 0
    assert "gap closed" in again.stdout
    text = (tmp_path / "report" / "tiny.md").read_text(encoding="utf-8")
    assert "--jobs 1 --threads 1 --workers 2`" in text


def test_an_unfinished_study_is_reported_as_far_as_it_is(study_copy, tmp_path):
    bank, folder = study_copy
    shutil.rmtree(folder / "dynamic-seed1")
    file = write_study(tmp_path / "study.yaml")
    said = run(file, "--data", bank, "--out", folder, "--max-time", "0", "--json")
    assert said.exit_code == 75
    seeds = {row["arm"]: row["seeds"] for row in json.loads(said.stdout)}
    assert (seeds["none"], seeds["dynamic"]) == (2, 1)
    assert "the same command continues" in said.stderr
    assert (folder / "tiny.md").exists()


def test_what_is_finished_is_reported_though_a_run_fails(study_copy, tmp_path, capsys):
    bank, folder = study_copy
    (folder / "dynamic-seed0" / DONE).unlink()
    (folder / "dynamic-seed0" / CHECKPOINT).write_bytes(b"no checkpoint")
    file = write_study(tmp_path / "study.yaml")
    with pytest.raises(SystemExit) as stop:
        main(["ablate", str(file), "--data", str(bank), "--out", str(folder), "--json"])
    assert stop.value.code not in (0, 75)
    said = capsys.readouterr()
    assert "dynamic-seed0: expected the run to finish" in said.err
    assert {row["arm"]: row["seeds"] for row in json.loads(said.out)}["dynamic"] == 1
    assert (folder / "tiny.md").exists()


NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(
            ["--accelerator", "cuda"], "expected a GPU that PyTorch can use", marks=NO_GPU
        ),
        (["--accelerator", "cpu", "--precision", "16-mixed"], "take bf16-mixed or 32-true"),
    ],
)
def test_hardware_that_is_not_there_is_refused_before_anything_is_made(
    tmp_path, capsys, words, says
):
    file = write_study(tmp_path / "study.yaml")
    with pytest.raises(SystemExit) as stop:
        main(["ablate", str(file), "--data", "none.h5", "--out", str(tmp_path / "out"), *words])
    assert stop.value.code == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_precision_than_that_of_the_finished_runs_is_refused(study_copy, tmp_path, capsys):
    bank, folder = study_copy
    file = write_study(tmp_path / "study.yaml")
    words = ["ablate", str(file), "--data", str(bank), "--out", str(folder)]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--precision", "bf16-mixed"])
    assert stop.value.code == 2
    assert "begun with 32-true; give --precision 32-true again" in capsys.readouterr().err


def test_the_command_in_the_report_has_the_teacher_that_was_taken_before(study_copy, tmp_path):
    bank, folder = study_copy
    shutil.copytree(folder / "teacher", tmp_path / "elsewhere")
    shutil.rmtree(folder / "teacher")
    file = write_study(tmp_path / "study.yaml")
    words = (file, "--data", bank, "--out", folder)
    assert run(*words, "--teacher", tmp_path / "elsewhere" / "last.ckpt").exit_code == 0
    assert run(*words).exit_code == 0
    text = (folder / "tiny.md").read_text(encoding="utf-8")
    assert "`chpnet-train ablate study.yaml --teacher CHECKPOINT --data DATA" in text
    assert "| teacher, taken from elsewhere | 1 |" in text
