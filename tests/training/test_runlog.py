import csv
from contextlib import nullcontext

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from chpnet_training.runlog import RunLog
from tests.helpers import no_file_larger_than


def rows_of(folder):
    with (folder / "validation.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def curves_of(folder):
    """What TensorBoard shows: step and value by tag."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        tag: [(e.step, pytest.approx(e.value)) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_rows_hold_scores_and_the_means_since_the_last_row(tmp_path):
    log = RunLog(tmp_path, 0)
    log.add({"loss": 1.0})
    log.add({"loss": 3.0, "share": 0.5})
    log.write(2, {"psnr": 30.1})
    log.add({"loss": 1.0, "lag": 0.1})
    log.write(3, {"psnr": 31.25})
    first, second = rows_of(tmp_path)
    names = ["step", "psnr", "train_loss", "train_share", "train_lag"]
    assert list(first) == names
    assert list(first.values()) == ["2.0", "30.1", "2.0", "0.5", ""]
    assert list(second.values()) == ["3.0", "31.25", "1.0", "", "0.1"]
    curves = curves_of(tmp_path)
    assert curves["validation/psnr"] == [(2, 30.1), (3, 31.25)]
    assert curves["training/loss"] == [(2, 2.0), (3, 1.0)]
    assert curves["training/share"] == [(2, 0.5)]


def test_a_continued_run_forgets_what_came_after_its_checkpoint(tmp_path):
    log = RunLog(tmp_path, 0)
    for step in (2, 4, 6):
        log.write(step, {"psnr": float(step)})
    again = RunLog(tmp_path, 4)
    assert [row["step"] for row in rows_of(tmp_path)] == ["2.0", "4.0"]
    again.write(6, {"psnr": 60.0})
    assert [row["psnr"] for row in rows_of(tmp_path)] == ["2.0", "4.0", "60.0"]
    assert curves_of(tmp_path)["validation/psnr"] == [(2, 2.0), (4, 4.0), (6, 60.0)]


@pytest.mark.parametrize("fault", ["full", "blocked"])
def test_curves_that_cannot_be_written_end_no_training(tmp_path, caplog, fault):
    log = RunLog(tmp_path, 0)
    if fault == "blocked":
        (tmp_path / "tensorboard").write_text("a file", encoding="utf-8")
    with no_file_larger_than(60) if fault == "full" else nullcontext():
        for step in (2, 4):
            log.write(step, {"psnr": 30.0 + step})
    assert [row["psnr"] for row in rows_of(tmp_path)] == ["32.0", "34.0"]
    (record,) = caplog.records  # told once
    assert "can't write" in record.message
    assert "nothing from step 2 on" in record.message


def test_begun_means_are_part_of_the_state(tmp_path):
    one, two = RunLog(tmp_path / "a", 0), RunLog(tmp_path / "b", 0)
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
    one.add({"loss": 1.0})
    two.load_state_dict(one.state_dict())
    for log in (one, two):
        log.add({"loss": 2.0})
        log.write(2, {})
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b")
    assert rows_of(tmp_path / "a")[0]["train_loss"] == "1.5"


def test_other_processes_write_nothing(tmp_path):
    log = RunLog(tmp_path, 0, enabled=False)
    log.add({"loss": 1.0})
    log.write(2, {"psnr": 1.0})
    assert not list(tmp_path.iterdir())
    assert log.state_dict() == {"sums": {}, "counts": {}}
