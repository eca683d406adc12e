import json
import math
import re
import shutil

import pytest
from PIL import Image

from chpnet_training.ablation import ADOPTED, DONE
from chpnet_training.ablation_report import differences, draw_curves, summarise, write_report
from chpnet_training.checkpoint import write_checkpoint
from chpnet_training.machine import processor
from chpnet_training.trainer import CHECKPOINT
from tests.training.tiny_runs import state_of
from tests.training.tiny_study import study_content, tiny_study

COLUMNS = ("psnr", "ssim", "nmse", "hfen")


def rows_of(scores: dict[tuple[str, int], tuple[float, ...]], condition: str = "R = 2") -> list:
    """Two slices for each network, half a decibel around its mean."""
    rows = []
    for (arm, seed), values in scores.items():
        for number, offset in enumerate((-0.5, 0.5)):
            row = {"network": f"{arm}-seed{seed}", "arm": arm, "seed": seed}
            row |= {"condition": condition, "split": "test", "slice": number}
            shifted = (values[0] + offset, *values[1:], 0.1 * values[2])
            rows.append(row | dict(zip(COLUMNS, shifted, strict=True)))
    return rows


SCORES = {
    ("start", 0): (26.0, 0.80, 0.050),
    ("none", 0): (30.0, 0.90, 0.020),
    ("none", 1): (30.4, 0.92, 0.018),
    ("frozen", 0): (30.5, 0.91, 0.017),
    ("frozen", 1): (30.3, 0.93, 0.017),
    ("dynamic", 0): (30.8, 0.92, 0.015),
    ("dynamic", 1): (31.0, 0.94, 0.013),
    ("teacher", 0): (31.2, 0.95, 0.012),
}


def test_the_table_by_hand():
    cells = {cell.arm: cell for cell in summarise(rows_of(SCORES))}
    assert list(cells) == ["start", "none", "frozen", "dynamic", "teacher"]
    none, dynamic, teacher = cells["none"], cells["dynamic"], cells["teacher"]
    assert (none.seeds, dynamic.seeds, teacher.seeds) == (2, 2, 1)
    assert none.psnr == pytest.approx(30.2)
    assert none.psnr_spread == pytest.approx(0.4 / math.sqrt(2))
    assert none.ssim == pytest.approx(0.91)
    assert none.ssim_spread == pytest.approx(0.02 / math.sqrt(2))
    assert none.nmse == pytest.approx(0.019)
    assert none.hfen == pytest.approx(0.0019)
    assert none.gap_closed == pytest.approx(0)
    assert dynamic.gap_closed == pytest.approx((30.9 - 30.2) / (31.2 - 30.2))
    assert cells["frozen"].gap_closed == pytest.approx(0.2)
    assert cells["start"].gap_closed == pytest.approx(-4.2)
    assert teacher.gap_closed == pytest.approx(1)
    assert teacher.psnr_spread is None
    assert teacher.ssim_spread is None


def test_differences_by_hand():
    found = {(d.arm, d.over): d for d in differences(rows_of(SCORES))}
    assert found.keys() == {("frozen", "none"), ("dynamic", "none"), ("dynamic", "frozen")}
    over_none = found["dynamic", "none"]
    assert over_none.psnr == pytest.approx(0.7)
    assert over_none.spread == pytest.approx(0.2 / math.sqrt(2))
    assert over_none.every_seed is True
    assert found["frozen", "none"].psnr == pytest.approx(0.2)
    assert found["frozen", "none"].every_seed is False  # +0.5 and -0.1


def test_differences_are_those_of_the_seeds_that_both_have():
    scores = {key: value for key, value in SCORES.items() if key != ("none", 1)}
    found = {(d.arm, d.over): d for d in differences(rows_of(scores))}
    assert found["dynamic", "none"].psnr == pytest.approx(0.8)
    assert found["dynamic", "none"].spread is None
    assert found["dynamic", "none"].every_seed is None
    assert found["dynamic", "frozen"].psnr == pytest.approx(0.5)


def test_the_gap_is_that_of_the_seeds_that_both_have():
    """A study that was cut has a seed of `none` and not of the arms that come later."""
    scores = {key: value for key, value in SCORES.items() if key != ("dynamic", 1)}
    cells = {cell.arm: cell for cell in summarise(rows_of(scores))}
    assert cells["dynamic"].gap_closed == pytest.approx((30.8 - 30.0) / (31.2 - 30.0))
    assert cells["frozen"].gap_closed == pytest.approx(0.2)
    assert cells["start"].gap_closed == pytest.approx(-4.2)
    scores[("unet", 5)] = (30.8, 0.9, 0.02)
    cells = {cell.arm: cell for cell in summarise(rows_of(scores))}
    assert cells["unet"].gap_closed is None


def test_conditions_are_apart():
    rows = rows_of(SCORES) + rows_of({("none", 0): (20.0, 0.5, 0.1)}, "R = 3")
    cells = summarise(rows)
    assert [c.condition for c in cells] == ["R = 2"] * 5 + ["R = 3"]
    assert cells[-1].psnr == pytest.approx(20.0)
    assert cells[-1].gap_closed is None  # no teacher there
    assert {d.condition for d in differences(rows)} == {"R = 2"}


def test_a_teacher_that_is_no_better_leaves_no_gap():
    scores = SCORES | {("teacher", 0): (30.0, 0.9, 0.02)}
    assert {cell.gap_closed for cell in summarise(rows_of(scores))} == {None}


def report(tmp_path, scores, footer="Made by hand.", **changes) -> tuple[str, dict]:
    study = tiny_study(**changes)
    files = write_report(study, rows_of(scores), tmp_path / "none", tmp_path, footer)
    assert [file.name for file in files] == ["tiny.md", "tiny.json", "tiny-curves.png"]

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    content = json.loads(files[1].read_text(encoding="utf-8"), parse_constant=refuse)
    return files[0].read_text(encoding="utf-8"), content


def test_the_report_says_the_numbers(tmp_path):
    text, content = report(tmp_path, SCORES, unet=True)
    lines = text.splitlines()
    assert lines[0] == "# Tiny study"
    assert "| none | 2 | 30.20 ± 0.28 | 0.9100 ± 0.0141 | 0.0190 | 0.0019 | 0 % |" in lines
    assert "| dynamic | 2 | 30.90 ± 0.14 | 0.9300 ± 0.0141 | 0.0140 | 0.0014 | 70 % |" in lines
    assert "| teacher | 1 | 31.20 | 0.9500 | 0.0120 | 0.0012 | 100 % |" in lines
    assert "| dynamic over none | +0.70 ± 0.14 | yes |" in lines
    assert "| frozen over none | +0.20 ± 0.42 | no |" in lines
    assert "## R = 2" in lines
    assert "## R = 3" in lines
    assert "Made by hand." in lines
    assert "![tiny-curves.png](tiny-curves.png)" in lines
    assert "images.png" not in text
    assert "nan" not in text
    assert "Seeds: 0, 1, of first weights and the order of the slices." in text
    assert "4 to 5 coils, compressed to at most 4; 12 to 14 calibration lines; 15 % random" in text
    assert "with the maximum of each true slice as peak" in text
    networks = [line.split("|")[1].strip() for line in lines if line.endswith("| 4 |")]
    assert networks == ["student", "teacher", "unet"]
    assert content["study"]["name"] == "tiny"
    cells = {cell["arm"]: cell for cell in content["cells"]}
    assert cells["dynamic"]["gap_closed"] == pytest.approx(0.7)
    assert cells["teacher"]["psnr_spread"] is None
    assert len(content["differences"]) == 3


@pytest.mark.parametrize(
    ("split", "says", "not_said"),
    [
        ("test", "subjects of the split `test`, which neither", "subjects of the validation"),
        ("val", "the subjects of the validation, since the data have no split `test`", "neither"),
    ],
)
def test_the_report_says_whom_the_test_shows(tmp_path, split, says, not_said):
    rows = [row | {"split": split} for row in rows_of(SCORES)]
    files = write_report(tiny_study(), rows, tmp_path / "none", tmp_path)
    text = files[0].read_text(encoding="utf-8")
    assert says in text
    assert not_said not in text
    assert json.loads(files[1].read_text(encoding="utf-8"))["test splits"] == [split]


def test_the_report_of_coarse_images_says_how_they_are_measured(tmp_path):
    content = study_content()["recipe"]
    content["student"]["task"] = "superres"
    content["superres"] = {"matrix": 96, "noise": [0.01, 0.02]}
    text, _ = report(tmp_path, SCORES, recipe=content, conditions=[{"name": "R = 2"}])
    assert "Magnitude images of 96 x 96 pixels, measured as means of blocks" in text
    assert "noise of 1 to 2 % of the 99th percentile" in text


def test_endless_slices_have_one_order(tmp_path):
    content = study_content()["recipe"]
    content["data"]["fixed"] = 0
    text, _ = report(tmp_path, SCORES, recipe=content)
    assert "of first weights and gates; all runs see the same endless slices in the same" in text
    assert "the order of the slices" not in text


def test_one_seed_has_no_spread(tmp_path):
    scores = {key: value for key, value in SCORES.items() if key[1] == 0}
    text, content = report(tmp_path, scores, seeds=[0])
    assert "±" not in text
    assert "nan" not in text
    assert "| none | 1 | 30.00 | 0.9000 | 0.0200 | 0.0020 | 0 % |" in text
    assert "| dynamic over none | +0.80 | – |" in text
    assert "One seed: there is no spread." in text
    assert all(cell["psnr_spread"] is None for cell in content["cells"])
    assert all(item["spread"] is None for item in content["differences"])


def test_pictures_that_are_there_are_shown(tmp_path):
    (tmp_path / "tiny-images.png").touch()
    text, _ = report(tmp_path, SCORES)
    assert "![tiny-images.png](tiny-images.png)" in text


def test_curves_are_a_picture_of_what_was_logged(tmp_path, finished_study):
    _, folder = finished_study
    study = tiny_study(unet=True)
    draw_curves(study, folder, tmp_path / "curves.png")
    draw_curves(study, tmp_path, tmp_path / "empty.png")  # nothing trained yet
    with Image.open(tmp_path / "curves.png") as drawn, Image.open(tmp_path / "empty.png") as empty:
        drawn.load()
        assert drawn.format == "PNG"
        assert drawn.size == empty.size
        assert drawn.size[0] > 800
        assert drawn.tobytes() != empty.tobytes()
        first = (31, 119, 180)  # C0, the first arm: a thin line, which mixes with what is beside it
        distances = [
            min(
                sum(abs(a - b) for a, b in zip(colour, first, strict=True))
                for _, colour in picture.convert("RGB").getcolors(2**24)
            )
            for picture in (drawn, empty)
        ]
    assert distances[0] < 60 < distances[1]


def trained_report(folder, out) -> tuple[list[str], list[dict]]:
    """Lines of the text, and the runs of the JSON."""
    files = write_report(tiny_study(unet=True), rows_of(SCORES), folder, out)
    content = json.loads(files[1].read_text(encoding="utf-8"))
    return files[0].read_text(encoding="utf-8").splitlines(), content["runs"]


def test_the_report_says_where_and_how_every_arm_was_trained(finished_study, tmp_path):
    _, finished = finished_study
    lines, runs = trained_report(finished, tmp_path)
    for arm, count in (("teacher", 1), ("none", 2), ("dynamic", 2), ("unet", 2)):
        assert f"| {arm} | {count} | 4 | {processor()} | 32-true |" in lines
    assert [run["run"] for run in runs][:3] == ["teacher", "none-seed0", "dynamic-seed0"]
    assert {run["precision"] for run in runs} == {"32-true"}
    assert not any(run["adopted"] for run in runs)

    folder = tmp_path / "out"
    shutil.copytree(finished, folder)
    (folder / "teacher" / DONE).write_text(ADOPTED, encoding="utf-8")
    for name, changes in (
        ("teacher", {"step": 7, "arithmetic": "bf16-mixed"}),
        ("none-seed1", {"hardware": ["A GPU", "Another"]}),
    ):
        write_checkpoint(folder / name / CHECKPOINT, state_of(folder / name) | changes)
    old = state_of(folder / "unet-seed0")
    del old["hardware"], old["arithmetic"]
    write_checkpoint(folder / "unet-seed0" / CHECKPOINT, old)
    lines, runs = trained_report(folder, tmp_path)
    assert f"| teacher, taken from elsewhere | 1 | 7 | {processor()} | bf16-mixed |" in lines
    assert f"| none | 2 | 4 | {processor()}; A GPU, then Another | 32-true |" in lines
    assert f"| unet | 2 | 4 | not recorded; {processor()} | not recorded; 32-true |" in lines
    (network,) = [line for line in lines if re.match(r"\| teacher \| [\d,]+ \| [\d,]+ \|", line)]
    assert network.endswith("| – |")  # its steps are not those of the study's recipe
    assert runs[0]["adopted"]
