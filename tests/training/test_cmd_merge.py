import json
import shutil

import pytest
from click.testing import CliRunner

from chpnet_training.ablation import DONE
from chpnet_training.ablation_merge import merge, read_part
from chpnet_training.ablation_scores import SCORES, read_scores
from chpnet_training.checkpoint import write_checkpoint
from chpnet_training.cli import main
from chpnet_training.cmd_ablate import command as ablate
from chpnet_training.csv_file import write_rows
from chpnet_training.machine import processor
from chpnet_training.runlog import VALIDATION
from chpnet_training.trainer import CHECKPOINT
from tests.training.tiny_runs import state_of
from tests.training.tiny_study import write_study


def run(command, *words: object):
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)


def refused(capsys, *words: object) -> str:
    """What `merge` says when it refuses."""
    with pytest.raises(SystemExit) as stop:
        main(["merge", *map(str, words)])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.fixture(scope="module")
def machines(finished_study, tmp_path_factory):
    """The study as one machine makes it; and as two, with a seed each. Read, or work on a copy."""
    bank, finished = finished_study
    place = tmp_path_factory.mktemp("machines")
    file = write_study(place / "study.yaml", unet=True)
    words = [file, "--data", bank]
    whole = place / "whole"
    shutil.copytree(finished, whole)
    assert run(ablate, *words, "--out", whole).exit_code == 0
    for seed in (0, 1):
        folder = place / f"machine{seed}"
        shutil.copytree(finished, folder, ignore=shutil.ignore_patterns(f"*-seed{1 - seed}"))
    shutil.rmtree(place / "machine1" / "teacher")
    teacher = finished / "teacher" / CHECKPOINT
    state = state_of(place / "machine1" / "none-seed1")
    write_checkpoint(
        place / "machine1" / "none-seed1" / CHECKPOINT, state | {"hardware": ["A GPU"]}
    )
    one, two = place / "machine0", place / "machine1"
    assert run(ablate, *words, "--out", one, "--set", "seeds=[0]").exit_code == 0
    said = run(ablate, *words, "--out", two, "--set", "seeds=[1]", "--teacher", teacher)
    assert said.exit_code == 0
    return place


@pytest.fixture
def two(machines, tmp_path):
    """Copies of the folders of two machines, as they come back: without networks."""
    for seed in (0, 1):
        shutil.copytree(
            machines / f"machine{seed}",
            tmp_path / f"machine{seed}",
            ignore=shutil.ignore_patterns("*.ckpt", "*.pt"),
        )
    return tmp_path / "machine0" / "tiny.json", tmp_path / "machine1" / "tiny.json"


def test_two_machines_make_the_report_of_one(machines, two, tmp_path):
    from chpnet_training.cmd_merge import command

    said = run(command, two[1], two[0], "--out", tmp_path / "out", "--json")
    assert said.exit_code == 0
    found = json.loads((tmp_path / "out" / "tiny.json").read_text(encoding="utf-8"))
    whole = json.loads((machines / "whole" / "tiny.json").read_text(encoding="utf-8"))
    assert found["cells"] == whole["cells"]
    assert found["differences"] == whole["differences"]
    assert found["study"] == whole["study"]
    assert [row["psnr_db"] for row in json.loads(said.stdout)] == [
        cell["psnr"] for cell in whole["cells"]
    ]
    text = (tmp_path / "out" / "tiny.md").read_text(encoding="utf-8")
    assert "Seeds: 0, 1, of first weights" in text
    assert f"| none | 2 | 4 | {processor()}; A GPU | 32-true |" in text
    assert f"| teacher | 1 | 4 | {processor()} | 32-true |" in text  # not "taken from elsewhere"
    assert "- seed 0: Made by `chpnet-train ablate study.yaml --set 'seeds=[0]' --data DATA" in text
    assert "- seed 1: Made by `chpnet-train ablate study.yaml --set 'seeds=[1]' --teacher" in text
    assert "do not share one teacher" not in text
    assert "![tiny-images.png](tiny-images.png)" in text
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "tiny.md", "tiny.json", "tiny-curves.png", "tiny-images.png", "tiny-scores.csv"
    }  # fmt: skip
    key = lambda row: (row["network"], row["condition"], row["slice"])  # noqa: E731
    merged = read_scores(tmp_path / "out" / "tiny-scores.csv")
    alone = read_scores(machines / "whole" / SCORES)
    marks = {"fingerprint": ""}  # none-seed1 has another: its file says the GPU
    assert sorted((row | marks for row in merged), key=key) == sorted(
        (row | marks for row in alone), key=key
    )


def test_the_curves_are_those_of_all_machines(two):
    merged = merge([read_part(path) for path in two])
    assert merged.logs["none-seed1"] == two[1].parent / "none-seed1" / VALIDATION
    assert merged.logs["teacher"] == two[0].parent / "teacher" / VALIDATION
    assert set(merged.logs) == {one.run for one in merged.runs}


def changed(path, **changes) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | changes), encoding="utf-8")


def own_teacher(path) -> None:
    """Give a machine another teacher: other scores, and a report of them."""
    rows = read_scores(path.parent / SCORES)
    for row in rows:
        if row["network"] == "teacher":
            row |= {"fingerprint": "another", "psnr": row["psnr"] + 1}
    write_rows(path.parent / SCORES, rows)
    content = json.loads(path.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        cell["psnr"] += cell["arm"] == "teacher"
    path.write_text(json.dumps(content), encoding="utf-8")


def test_each_seed_may_have_a_teacher_of_its_own(two, tmp_path, capsys):
    own_teacher(two[1])
    from chpnet_training.cmd_merge import command

    assert run(command, *two, "--out", tmp_path / "out").exit_code == 0
    content = json.loads((tmp_path / "out" / "tiny.json").read_text(encoding="utf-8"))
    cells = {(cell["arm"], cell["condition"]): cell for cell in content["cells"]}
    assert cells["teacher", "R = 2"]["seeds"] == 2
    assert cells["teacher", "R = 2"]["psnr_spread"] == pytest.approx(0.5**0.5)
    text = (tmp_path / "out" / "tiny.md").read_text(encoding="utf-8")
    assert "The seeds do not share one teacher" in text

    study = json.loads(two[0].read_text(encoding="utf-8"))["study"] | {"seeds": [0, 7]}
    changed(two[0], study=study)
    said = refused(capsys, *two, "--out", tmp_path / "again")
    assert "found seeds 0, 7 and different teachers; train the teacher once" in said


def other_study(path) -> None:
    study = json.loads(path.read_text(encoding="utf-8"))["study"]
    study["recipe"]["optimizer"]["steps"] = 400
    changed(path, study=study)


def other_data(path) -> None:
    rows = read_scores(path.parent / SCORES)
    marks = [row | {"fingerprint": "x" + row["fingerprint"]} for row in rows]
    write_rows(path.parent / SCORES, marks)


def other_precision(path) -> None:
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    changed(path, runs=[one | {"precision": "bf16-mixed"} for one in runs])


def fewer_slices(path) -> None:
    write_rows(path.parent / SCORES, read_scores(path.parent / SCORES)[:-1])


def later_scores(path) -> None:
    rows = read_scores(path.parent / SCORES)
    write_rows(path.parent / SCORES, [row | {"psnr": row["psnr"] + 0.01} for row in rows])


def no_scores(path) -> None:
    (path.parent / SCORES).unlink()


def no_runs(path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["runs"]
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (other_study, "found another one (recipe.optimizer.steps is 400 there and 4 here)"),
        (other_data, "found those of other data, or of another version"),
        (other_precision, "expected runs of one precision, found 32-true in "),
        (fewer_slices, "expected 2 slices of each of 6 networks under 2 conditions"),
        (later_scores, "expected the scores of scores.csv beside it, found others"),
        (no_scores, "expected scores.csv of the study's --out folder beside it, found none"),
        (no_runs, "expected the study's runs, found none; give the `ablate` command"),
        (lambda path: changed(path, merged=True), "found a merged one; give all the reports"),
        (lambda path: path.write_text("[]"), "expected a report of `chpnet-train ablate`"),
        (lambda path: path.unlink(), "can't read "),
    ],
)
def test_what_does_not_belong_together_is_refused(two, tmp_path, capsys, damage, says):
    damage(two[1])
    assert says in refused(capsys, *two, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_counts_once(machines, two, tmp_path, capsys):
    whole = machines / "whole" / "tiny.json"
    said = refused(capsys, whole, two[1], "--out", tmp_path / "out")
    assert "found none-seed1 in both; give the `ablate` command of it again there" in said


def test_nothing_is_replaced(two, tmp_path, capsys):
    before = two[0].read_bytes()
    said = refused(capsys, *two, "--out", two[0].parent, "--overwrite")
    assert "expected another folder than that of" in said
    (tmp_path / "out").mkdir()
    shutil.copy(two[0], tmp_path / "out")
    assert "exists already" in refused(capsys, *two, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "tiny.json").read_bytes() == before == two[0].read_bytes()
    with pytest.raises(SystemExit) as stop:
        main(["merge", *map(str, two), "--out", str(tmp_path / "out"), "--overwrite"])
    assert stop.value.code == 0
    assert (tmp_path / "out" / "tiny.json").read_bytes() != before
    capsys.readouterr()
    said = refused(capsys, tmp_path / "out" / "tiny.json", two[1], "--out", tmp_path / "again")
    assert "found a merged one" in said


def test_one_report_is_not_merged(two, tmp_path, capsys):
    assert "expected two reports or more, found 1" in refused(
        capsys, two[0], "--out", tmp_path / "out"
    )


def test_an_unfinished_machine_is_merged_as_far_as_it_is(machines, finished_study, tmp_path):
    bank, _ = finished_study
    folder = tmp_path / "machine1"
    shutil.copytree(machines / "machine1", folder)
    (folder / "dynamic-seed1" / DONE).unlink()
    words = [machines / "study.yaml", "--data", bank, "--out", folder, "--set", "seeds=[1]"]
    assert run(ablate, *words, "--max-time", 0).exit_code == 75
    parts = [read_part(path / "tiny.json") for path in (machines / "machine0", folder)]
    merged = merge(parts)
    assert merged.study.seeds == (0, 1)
    assert {row["seed"] for row in merged.rows if row["arm"] == "none"} == {0, 1}
    assert {row["seed"] for row in merged.rows if row["arm"] == "dynamic"} == {0}
