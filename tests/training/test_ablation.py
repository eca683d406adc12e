"""Studies in real processes: killed, continued, stopped, failing."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from chpnet_stream.errors import OutputError
from chpnet_training.ablation import (
    ADOPTED,
    DONE,
    LOG,
    FailedRunsError,
    Hardware,
    Run,
    adopt_teacher,
    runs_of,
    train_all,
)
from chpnet_training.checkpoint import write_checkpoint
from chpnet_training.optimization import TrainingError
from chpnet_training.options import ALLOCATOR
from chpnet_training.study import ARMS, Study
from chpnet_training.trainer import CHECKPOINT
from tests.helpers import no_file_larger_than
from tests.training.tiny import tiny_bank
from tests.training.tiny_runs import state_of
from tests.training.tiny_study import tiny_study, write_study

PATIENCE = 240
"""Seconds after which a process that does not come to an end is a failure."""


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Path:
    return tiny_bank(tmp_path_factory.mktemp("bank") / "bank.h5")


def names(study: Study) -> list[str]:
    return [run.name for run in runs_of(study)]


def run_named(study: Study, name: str) -> Run:
    return next(run for run in runs_of(study) if run.name == name)


def soon() -> float:
    """A deadline, so that a fault does not hang the tests."""
    return time.monotonic() + PATIENCE


def wait_for(*paths: Path) -> None:
    end = soon()
    while not all(path.exists() for path in paths):
        assert time.monotonic() < end, f"waited in vain for {paths}"
        time.sleep(0.05)


def stamps(folder: Path) -> dict[str, int]:
    """When the files of a run were written."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): path.stat().st_mtime_ns for path in files}


def test_the_order_of_runs():
    study = tiny_study(arms=ARMS, seeds=[4, 2], unet=True)
    arms = ["none", "frozen", "dynamic-parameters", "dynamic", "unet"]
    assert names(study) == ["teacher", *(f"{a}-seed{s}" for s in (4, 2) for a in arms)]
    assert [run.seed for run in runs_of(study)] == [4, *[4] * 5, *[2] * 5]


def test_the_command_of_a_run():
    study = tiny_study(unet=True)
    folder = Path("out")
    words = {run.name: run.arguments(Path("bank.h5"), folder) for run in runs_of(study)}
    verbs = {name: line[0] for name, line in words.items()}
    assert verbs["teacher"] == "teacher"
    assert verbs["none-seed0"] == verbs["unet-seed0"] == "student"
    assert verbs["dynamic-seed1"] == "distill"
    line = words["dynamic-seed1"]
    assert line[1] == str(folder / "dynamic-seed1" / "recipe.yaml")
    assert line[line.index("--teacher") + 1] == str(folder / "teacher" / CHECKPOINT)
    assert line[line.index("--cache") + 1] == str(folder / "data")
    assert words["unet-seed0"][-2:] == ["--network", "unet"]
    assert "--teacher" not in words["none-seed0"]


@pytest.fixture(scope="module")
def killed(bank, tmp_path_factory) -> Path:
    """A study whose command was killed (-9) while the second run was going on."""
    folder = tmp_path_factory.mktemp("killed")
    file = write_study(folder / "study.yaml")
    words = [sys.executable, "-m", "chpnet_training", "ablate", str(file), "--data", str(bank)]
    process = subprocess.Popen(
        [*words, "--out", str(folder / "out")],
        env={**os.environ, **ALLOCATOR},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(folder / "out" / "teacher" / DONE, folder / "out" / "none-seed0" / LOG)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    return folder / "out"


def test_what_was_finished_when_it_was_killed(killed):
    assert (killed / "teacher" / CHECKPOINT).exists()
    assert not (killed / "none-seed0" / DONE).exists()
    assert not (killed / "dynamic-seed1").exists()


def go_on(study: Study, bank: Path, folder: Path, jobs: int) -> dict:
    """Continue a study; gives what was told meanwhile, and the files that were there before."""
    told: list[tuple[str, int, int]] = []
    before = {
        name: stamps(folder / name) for name in names(study) if (folder / name / DONE).exists()
    }
    done = train_all(
        study,
        bank,
        folder,
        jobs=jobs,
        deadline=soon(),
        progress=lambda *said: told.append(said),
    )
    return {"folder": folder, "before": before, "told": told, "done": done}


def check_finished(study: Study, result: dict) -> None:
    folder = result["folder"]
    assert result["done"]
    for name in names(study):
        assert (folder / name / DONE).exists(), name
        assert state_of(folder / name)["step"] == 4, name
    for name, files in result["before"].items():
        assert stamps(folder / name) == files, name


@pytest.fixture(scope="module")
def continued(bank, killed) -> dict:
    """The first seed of the same study, continued."""
    return go_on(tiny_study(seeds=[0]), bank, killed, jobs=1)


def test_a_killed_study_goes_on(continued):
    check_finished(tiny_study(seeds=[0]), continued)
    assert continued["before"].keys() == {"teacher"}
    assert {total for _, _, total in continued["told"]} == {3}


@pytest.fixture(scope="module")
def finished(bank, continued) -> dict:
    """With the second seed, two runs at a time."""
    return go_on(tiny_study(), bank, continued["folder"], jobs=2)


def test_two_runs_go_on_at_a_time(finished):
    check_finished(tiny_study(), finished)
    assert finished["before"].keys() == {"teacher", "none-seed0", "dynamic-seed0"}
    running = [set(re.findall(r"(\S+-seed\d): ", said)) for said, _, _ in finished["told"]]
    assert {"none-seed1", "dynamic-seed1"} in running
    assert set.union(*running) == {"none-seed1", "dynamic-seed1"}
    done = [number for _, number, _ in finished["told"]]
    assert done == sorted(done)
    assert done[0] == 3
    assert {total for _, _, total in finished["told"]} == {5}


def test_all_runs_share_the_data_and_only_seeds_differ_in_the_start(finished):
    folder = finished["folder"]
    assert not list(folder.glob("*-seed*/data"))
    recipes = {name: state_of(folder / name)["recipe"] for name in names(tiny_study())}
    assert {recipe["data"]["seed"] for recipe in recipes.values()} == {3}
    for seed in (0, 1):
        ours, theirs = recipes[f"none-seed{seed}"], recipes[f"dynamic-seed{seed}"]
        assert ours.pop("distillation") != theirs.pop("distillation")
        assert ours == theirs
    one, two = (state_of(folder / f"none-seed{seed}")["networks"]["student"] for seed in (0, 1))
    assert not any(torch.equal(one[key], two[key]) for key in one if one[key].ndim > 1)


def test_what_is_finished_is_not_touched(bank, finished):
    before = stamps(finished["folder"])
    assert train_all(tiny_study(), bank, finished["folder"], deadline=soon())
    assert stamps(finished["folder"]) == before


def test_runs_of_another_recipe_are_refused(bank, finished):
    study = tiny_study()
    longer = study.model_copy(update={"recipe": study.recipe.with_optimizer(steps=5)})
    with pytest.raises(
        TrainingError, match=r"optimizer\.steps is 4 there and 5 here.*another --out"
    ):
        train_all(longer, bank, finished["folder"], deadline=soon())


def other_bank(place: Path) -> Path:
    """The same images, another of them held back."""
    return tiny_bank(place / "other.h5", ("val", "train", "train", "train"))


def test_runs_of_other_data_are_refused(finished, tmp_path):
    with pytest.raises(
        TrainingError, match=r"--data other\.h5 \(checksum \w{12}\), found .* begun with bank\.h5"
    ):
        train_all(tiny_study(), other_bank(tmp_path), finished["folder"], deadline=soon())


def test_runs_of_another_teacher_are_refused(bank, finished, tmp_path):
    folder = shutil.copytree(finished["folder"], tmp_path / "out")
    state = state_of(folder / "teacher")
    next(iter(state["networks"]["teacher"].values())).add_(0.5)
    write_checkpoint(folder / "teacher" / CHECKPOINT, state)
    with pytest.raises(TrainingError, match=r"dynamic-seed0.*--teacher teacher/last\.ckpt"):
        train_all(tiny_study(), bank, folder, deadline=soon())


@pytest.mark.parametrize("told", [True, False])
def test_runs_of_another_precision_are_refused(bank, finished, tmp_path, told):
    """Old checkpoints do not tell theirs: there was one only."""
    folder = shutil.copytree(finished["folder"], tmp_path / "out")
    state = state_of(folder / "teacher")
    if not told:
        del state["arithmetic"]
    write_checkpoint(folder / "teacher" / CHECKPOINT, state)
    said = r"teacher/last\.ckpt: .*--precision bf16-mixed, found .*begun with 32-true; give --prec"
    other = Hardware(precision="bf16-mixed")
    with pytest.raises(TrainingError, match=said):
        train_all(tiny_study(), bank, folder, hardware=other, deadline=soon())


def test_what_every_run_is_told_of_the_hardware():
    told = ["--accelerator", "auto", "--devices", "1", "--precision", "32-true", "--workers", "0"]
    assert Hardware().words() == told
    assert Hardware().words(unusual=True) == []
    unusual = Hardware("cuda", 1, "bf16-mixed", 0).words(unusual=True)
    assert unusual == ["--accelerator", "cuda", "--precision", "bf16-mixed"]


def test_finished_runs_that_do_not_say_their_data_are_kept_with_a_warning(
    bank, finished, tmp_path, caplog
):
    folder = shutil.copytree(finished["folder"], tmp_path / "out")
    for name in ("teacher", "none-seed1"):
        state = state_of(folder / name)
        del state["given"]
        write_checkpoint(folder / name / CHECKPOINT, state)
    assert train_all(tiny_study(), bank, folder, deadline=soon())
    assert "checkpoints of teacher, none-seed1 don't say which data" in caplog.text


def test_only_settings_that_count_for_a_run_are_compared(finished):
    folder = finished["folder"]
    study = tiny_study(arms={"none": {"weight": 0.0, "hints": 0.0}, "dynamic": {"pull": 0.25}})
    for name in ("teacher", "none-seed0"):
        assert not run_named(study, name).foreign(folder)
    (said,) = run_named(study, "dynamic-seed0").foreign(folder)
    assert said == "distillation.pull is 0.5 there and 0.25 here"

    wider = tiny_study()
    student = wider.recipe.student.model_copy(update={"widths": (4, 12)})
    wider = wider.model_copy(
        update={"recipe": wider.recipe.model_copy(update={"student": student, "name": "wide"})}
    )
    assert not run_named(wider, "teacher").foreign(folder)
    (said,) = run_named(wider, "none-seed1").foreign(folder)
    assert said.startswith("student.widths")


def test_a_teacher_of_another_study(bank, finished, tmp_path, caplog):
    """It is taken over, and the shared slices, which its training would have made, are made."""
    checkpoint = finished["folder"] / "teacher" / CHECKPOINT
    adopt_teacher(checkpoint, tmp_path)
    adopt_teacher(checkpoint, tmp_path)  # the same command again
    assert (tmp_path / "teacher" / CHECKPOINT).read_bytes() == checkpoint.read_bytes()
    assert (tmp_path / "teacher" / "validation.csv").exists()
    assert (tmp_path / "teacher" / DONE).read_text() == ADOPTED

    study = tiny_study(arms={"dynamic": {}}, seeds=[7])
    assert train_all(study, bank, tmp_path, deadline=soon())
    assert not caplog.text
    assert (tmp_path / "data" / "train.pt").exists()
    assert state_of(tmp_path / "dynamic-seed7")["step"] == 4

    late = time.monotonic() - 1
    only_taught = tiny_study(arms={"frozen": {"correction": False}}, seeds=[8])
    assert not train_all(only_taught, other_bank(tmp_path), tmp_path, deadline=late)
    assert "trained with bank.h5" in caplog.text  # of a teacher, that is allowed

    other = tmp_path / "other.ckpt"
    other.write_bytes((finished["folder"] / "dynamic-seed0" / CHECKPOINT).read_bytes())
    with pytest.raises(TrainingError, match="found another teacher"):
        adopt_teacher(other, tmp_path)
    with pytest.raises(TrainingError, match="expected a teacher's checkpoint, found student"):
        adopt_teacher(finished["folder"] / "none-seed0" / CHECKPOINT, tmp_path / "new")

    smaller = study.recipe.teacher.model_copy(update={"blocks": 1})
    study = study.model_copy(
        update={"recipe": study.recipe.model_copy(update={"teacher": smaller})}
    )
    with pytest.raises(TrainingError, match=r"teacher\.blocks is 2 there and 1 here"):
        train_all(study, bank, tmp_path, deadline=soon())


def test_a_teacher_that_could_not_be_copied_is_copied_by_the_next_try(tmp_path):
    checkpoint, folder = tmp_path / "old" / CHECKPOINT, tmp_path / "study"
    checkpoint.parent.mkdir()
    write_checkpoint(checkpoint, {"networks": {"teacher": {"a": torch.ones(1000)}}})
    said = f"can't write .*{CHECKPOINT}: File too large"
    with no_file_larger_than(1000), pytest.raises(OutputError, match=said):
        adopt_teacher(checkpoint, folder)
    assert list((folder / "teacher").iterdir()) == []
    adopt_teacher(checkpoint, folder)
    assert (folder / "teacher" / CHECKPOINT).read_bytes() == checkpoint.read_bytes()


def test_a_mark_that_could_not_be_written_is_written_by_the_next_try(tmp_path):
    """Half of it would be taken for the mark of a teacher that this study has trained."""
    checkpoint, folder = tmp_path / "old" / CHECKPOINT, tmp_path / "study"
    checkpoint.parent.mkdir()
    write_checkpoint(checkpoint, {"networks": {"teacher": {"a": torch.ones(2)}}})
    adopt_teacher(checkpoint, folder)
    mark = folder / "teacher" / DONE
    mark.unlink()
    with no_file_larger_than(3), pytest.raises(OutputError, match=f"can't write .*{DONE}"):
        adopt_teacher(checkpoint, folder)
    assert not mark.exists()
    adopt_teacher(checkpoint, folder)
    assert mark.read_text(encoding="utf-8") == ADOPTED


def test_a_recipe_that_could_not_be_written_is_not_half_there(bank, tmp_path):
    with no_file_larger_than(100), pytest.raises(OutputError, match=r"can't write .*recipe\.yaml"):
        train_all(tiny_study(), bank, tmp_path, deadline=soon())
    assert [path.name for path in (tmp_path / "teacher").iterdir()] == [LOG]


def test_a_failing_run_is_an_error_with_its_last_words(bank, tmp_path):
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / CHECKPOINT).write_bytes(b"no checkpoint")
    with pytest.raises(TrainingError, match=r"teacher: .*exit code 2; .*log\.txt: .*damaged file"):
        train_all(tiny_study(), bank, tmp_path, deadline=soon())
    assert not (tmp_path / "teacher" / DONE).exists()
    assert not (tmp_path / "none-seed0").exists()


def test_a_failing_run_holds_up_no_other_one(bank, finished, tmp_path, caplog):
    folder = shutil.copytree(finished["folder"], tmp_path / "out")
    for name in ("none-seed0", "none-seed1"):
        shutil.rmtree(folder / name)
    (folder / "none-seed0").mkdir()
    (folder / "none-seed0" / CHECKPOINT).write_bytes(b"no checkpoint")
    with pytest.raises(FailedRunsError, match=r"none-seed0: .*exit code 2; .*damaged file"):
        train_all(tiny_study(), bank, folder, deadline=soon())
    assert (folder / "none-seed1" / DONE).exists()
    assert not (folder / "none-seed0" / DONE).exists()
    assert "none-seed0: expected the run to finish" in caplog.text  # told at once


def test_a_failing_run_does_not_end_a_study_that_is_made_in_pieces(
    bank, finished, tmp_path, caplog
):
    """The code of the command says whether the same command has more to do."""
    folder = shutil.copytree(finished["folder"], tmp_path / "out")
    for name in ("none-seed0", "none-seed1"):
        shutil.rmtree(folder / name)
    (folder / "none-seed0").mkdir()
    (folder / "none-seed0" / CHECKPOINT).write_bytes(b"no checkpoint")
    end, second = soon(), folder / "none-seed1" / LOG
    stopped = lambda: second.exists() or time.monotonic() > end  # noqa: E731
    assert train_all(tiny_study(), bank, folder, stop=stopped) is False
    assert second.exists()
    assert "none-seed0: expected the run to finish" in caplog.text


def test_stopped_at_a_checkpoint(bank, tmp_path):
    study = tiny_study()
    long = study.model_copy(update={"recipe": study.recipe.with_optimizer(steps=100_000)})
    checkpoint = tmp_path / "teacher" / CHECKPOINT
    end = soon()
    assert not train_all(
        long, bank, tmp_path, stop=lambda: checkpoint.exists() or time.monotonic() > end
    )
    assert not (tmp_path / "teacher" / DONE).exists()
    assert 2 <= state_of(tmp_path / "teacher")["step"] < 100_000
    assert "not finished" in (tmp_path / "teacher" / LOG).read_text(encoding="utf-8")
    with pytest.raises(TrainingError, match=r"log\.txt: .*found one that was begun with 32-true"):
        train_all(long, bank, tmp_path, hardware=Hardware(precision="bf16-mixed"), deadline=end)


def child_at_work_in(folder: Path) -> int:
    """The process of a run of the study in this folder."""
    own = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    found = [pid for pid in own if str(folder) in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(found) == 1
    return int(found[0])


@pytest.mark.skipif(sys.platform != "linux", reason="finds the run in /proc")
def test_a_run_that_ends_by_ctrl_c_before_the_study_looks_is_no_failure(bank, tmp_path):
    """A terminal interrupts the study and its runs together."""
    study = tiny_study()
    long = study.model_copy(update={"recipe": study.recipe.with_optimizer(steps=100_000)})
    checkpoint, end = tmp_path / "teacher" / CHECKPOINT, soon()
    interrupted = []

    def stop() -> bool:
        if interrupted or time.monotonic() > end:
            return True
        if checkpoint.exists():
            child = child_at_work_in(tmp_path)
            os.kill(child, signal.SIGINT)
            while Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                assert time.monotonic() < end
                time.sleep(0.05)
            interrupted.append(child)
        return False  # it looked a moment too early

    assert not train_all(long, bank, tmp_path, stop=stop)
    assert interrupted
    assert not (tmp_path / "teacher" / DONE).exists()
    assert "not finished" in (tmp_path / "teacher" / LOG).read_text(encoding="utf-8")


def test_after_the_deadline_nothing_is_begun(bank, tmp_path):
    assert not train_all(tiny_study(), bank, tmp_path, deadline=time.monotonic() - 1)
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_process_is_left_to_it(bank, tmp_path):
    (tmp_path / "teacher").mkdir()
    with (tmp_path / "teacher" / LOG).open("ab") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        study = tiny_study(arms={"dynamic": {}})
        assert not train_all(study, bank, tmp_path, deadline=time.monotonic() + 1)
    assert [path.name for path in tmp_path.rglob("*")] == ["teacher", LOG]
    assert (tmp_path / "teacher" / LOG).read_bytes() == b""
