import csv
import shutil

import pytest
import torch

from chpnet_training.ablation import DONE
from chpnet_training.ablation_scores import SCORES, read_scores, score_all
from chpnet_training.checkpoint import CheckpointError
from chpnet_training.csv_file import write_rows
from chpnet_training.losses import magnitude
from chpnet_training.runs import evaluated_network
from chpnet_training.scoring import hfen
from chpnet_training.trainer import CHECKPOINT
from chpnet_training.unseen import unseen_batches
from chpnet_training.validation import score_images
from tests.training.tiny_study import tiny_study


@pytest.fixture
def study_copy(finished_study, tmp_path):
    bank, folder = finished_study
    shutil.copytree(folder, tmp_path / "out")
    return bank, tmp_path / "out"


def test_every_network_on_every_slice(study_copy):
    bank, folder = study_copy
    study = tiny_study(unet=True)
    rows = score_all(study, bank, folder)
    names = ["start", "teacher"]
    for seed in (0, 1):
        names += [f"none-seed{seed}", f"dynamic-seed{seed}", f"dynamic-seed{seed} teacher"]
        names += [f"unet-seed{seed}"]
    assert list(dict.fromkeys(row["network"] for row in rows)) == names
    assert len(rows) == len(names) * 2 * 2
    assert read_scores(folder / SCORES) == rows
    after = [row for row in rows if row["network"] == "dynamic-seed1 teacher"]
    assert {(row["arm"], row["seed"]) for row in after} == {("teacher after dynamic", 1)}

    batches = unseen_batches(study.condition_recipe(study.conditions[1]), bank)
    for label, place, kind in (
        ("none-seed1", "none-seed1", "student"),
        ("unet-seed0", "unet-seed0", "unet"),
        ("dynamic-seed0 teacher", "dynamic-seed0", "teacher"),
    ):
        network = evaluated_network(folder / place / CHECKPOINT, kind)[0]
        found = [r for r in rows if (r["network"], r["condition"]) == (label, "R = 3")]
        for row, batch in zip(found, batches, strict=True):
            with torch.no_grad():
                image = network(batch.start, batch.adjoint, batch.normal, batch.noise)
            for name, value in score_images(image, batch.target).items():
                assert row[name] == pytest.approx(float(value))
            found_image, truth = (magnitude(x)[0, 0] for x in (image, batch.target))
            assert row["hfen"] == pytest.approx(hfen(found_image, truth), rel=1e-5)
    starts = [row for row in rows if row["network"] == "start" and row["condition"] == "R = 3"]
    for row, batch in zip(starts, batches, strict=True):
        assert row["psnr"] == pytest.approx(float(score_images(batch.start, batch.target)["psnr"]))


def test_what_is_scored_is_kept(study_copy):
    bank, folder = study_copy
    study = tiny_study()
    (folder / "dynamic-seed1" / DONE).unlink()
    score_all(study, bank, folder)
    path = folder / SCORES
    rows = read_scores(path)
    assert not [row for row in rows if row["network"].startswith("dynamic-seed1")]

    text = path.read_text(encoding="utf-8")
    rows[0]["psnr"] = 12.5  # a mark: what is there is not scored again
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "dynamic-seed1" / DONE).touch()
    more = score_all(study, bank, folder)
    assert more[: len(rows)] == rows
    assert {row["network"] for row in more[len(rows) :]} == {
        "dynamic-seed1",
        "dynamic-seed1 teacher",
    }
    head = path.read_text(encoding="utf-8").splitlines()
    assert head[0] == text.splitlines()[0]
    assert head[1].startswith("start,start,0,R = 2,val,0,12.5,")

    before = path.stat().st_mtime_ns
    assert score_all(study, bank, folder) == more
    assert path.stat().st_mtime_ns == before


def scored(rows):
    """Fingerprints by network and condition; one each."""
    found = {(row["network"], row["condition"]): row["fingerprint"] for row in rows}
    assert all(found[row["network"], row["condition"]] == row["fingerprint"] for row in rows)
    return found


def test_what_changed_under_its_name_is_scored_again(study_copy):
    bank, folder = study_copy
    begun = score_all(tiny_study(), bank, folder)
    harder = [
        {"name": "R = 2", "settings": {"simulation.accelerations": [2]}},
        {
            "name": "R = 3",
            "settings": {"simulation.accelerations": [3], "simulation.noise": [1, 1]},
        },
    ]
    rows = score_all(tiny_study(conditions=harder), bank, folder)
    changed = {key for key, mark in scored(rows).items() if mark != scored(begun)[key]}
    assert changed == {key for key in scored(begun) if key[1] == "R = 3"}
    assert len(rows) == len(begun)
    worse = [
        row["psnr"] for row in rows if (row["network"], row["condition"]) == ("start", "R = 3")
    ]
    better = [
        row["psnr"] for row in rows if (row["network"], row["condition"]) == ("start", "R = 2")
    ]
    assert max(worse) < min(better) - 5
    assert read_scores(folder / SCORES) == rows

    more = score_all(tiny_study(conditions=harder, test_slices=3), bank, folder)
    assert {row["slice"] for row in more} == {0, 1, 2}
    assert not set(scored(more).values()) & set(scored(rows).values())

    one = folder / "none-seed1" / CHECKPOINT
    shutil.copyfile(folder / "none-seed0" / CHECKPOINT, one)
    again = score_all(tiny_study(conditions=harder, test_slices=3), bank, folder)
    changed = {key[0] for key, mark in scored(again).items() if mark != scored(more)[key]}
    assert changed == {"none-seed1"}


def test_scores_without_a_fingerprint_are_made_again(study_copy):
    bank, folder = study_copy
    rows = score_all(tiny_study(), bank, folder)
    write_rows(
        folder / SCORES,
        [
            {key: value for key, value in row.items() if key != "fingerprint"} | {"psnr": 99.0}
            for row in rows
        ],
    )
    assert score_all(tiny_study(), bank, folder) == rows


def test_only_what_the_study_has_is_told(study_copy):
    bank, folder = study_copy
    whole = score_all(tiny_study(unet=True), bank, folder)
    few = {
        "seeds": [0],
        "conditions": [{"name": "R = 2", "settings": {"simulation.accelerations": [2]}}],
    }
    rows = score_all(tiny_study(**few), bank, folder)
    assert {row["condition"] for row in rows} == {"R = 2"}
    assert {row["network"] for row in rows} == {
        "start", "teacher", "none-seed0", "dynamic-seed0", "dynamic-seed0 teacher"
    }  # fmt: skip
    assert read_scores(folder / SCORES) == whole  # nothing is lost


def test_no_scores_yet(tmp_path):
    assert read_scores(tmp_path / SCORES) == []


def test_what_was_scored_before_an_error_is_kept(study_copy):
    bank, folder = study_copy
    (folder / "dynamic-seed1" / CHECKPOINT).write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match=r"dynamic-seed1.*damaged file"):
        score_all(tiny_study(), bank, folder)
    kept = read_scores(folder / SCORES)
    assert {row["network"] for row in kept} == {
        "start", "teacher", "none-seed0", "dynamic-seed0", "dynamic-seed0 teacher", "none-seed1"
    }  # fmt: skip
    assert {row["condition"] for row in kept} == {"R = 2"}
