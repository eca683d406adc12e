import json
import shutil

import pytest
from click.testing import CliRunner

from chpnet_training.bank import SourceBank
from chpnet_training.cli import main
from chpnet_training.cmd_ablate import command
from tests.training.tiny_study import write_study


def run(*words: object):
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["ablate", "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for word in ("STUDY", "--jobs", "--teacher", "--report", "--max-time"):
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

    again = run(*words)
    assert again.exit_code == 0
    assert "gap closed" in again.stdout


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
