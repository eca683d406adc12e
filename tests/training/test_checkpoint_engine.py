"""Networks of training runs, scored as a model is."""

import pytest

from chpnet_stream.engines.engine import Engine
from chpnet_stream.errors import ConfigurationError
from chpnet_stream.simulation.scan import simulate_scan
from chpnet_training.checkpoint_engine import CheckpointEngine, facts_of, parse_networks
from chpnet_training.devices import make_fabric
from chpnet_training.evaluation import evaluate_scan
from chpnet_training.recipe import Recipe
from chpnet_training.runs import Materials, supervised_run
from chpnet_training.trainer import CHECKPOINT
from tests.helpers import small_options
from tests.training.tiny import tiny_bank, tiny_recipe

SMALL = {
    "teacher": {"width": 8, "heads": 2, "blocks": 1, "iterations": 2, "window": 4},
    "unet": {"widths": (4, 8)},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    bank = tiny_bank(folder / "bank.h5")
    recipe = Recipe.model_validate(tiny_recipe(steps=2).model_dump() | SMALL)
    for name in ("student", "teacher", "unet"):
        fabric = make_fabric(accelerator="cpu")
        supervised_run(recipe, name, Materials(fabric, bank, folder / name)).run()
    return folder


def test_every_network_is_scored_beside_the_model(runs, tmp_path):
    texts = (f"teacher={runs / 'teacher' / CHECKPOINT}", f"unet={runs / 'unet' / CHECKPOINT}")
    others = parse_networks((*texts, f"mine={runs / 'student' / CHECKPOINT}:student"))
    model: Engine = CheckpointEngine(runs / "student" / CHECKPOINT, "student")
    scan = tmp_path / "scan.h5"
    simulate_scan(scan, small_options(acceleration=1, slices=1))
    rows = evaluate_scan(
        scan,
        model,
        acceleration=2,
        calibration_lines=16,
        repeats=1,
        bart=False,
        others=others,
    )
    found = {row.method: row for row in rows}
    assert list(found) == ["zero-filled", "cg-sense", "chpnet", "teacher", "unet", "mine"]
    assert found["mine"].score == found["chpnet"].score
    assert found["teacher"].score.psnr != found["chpnet"].score.psnr
    assert found["unet"].score.psnr != found["teacher"].score.psnr


@pytest.mark.parametrize("text", ["RUN/last.ckpt", "=RUN/last.ckpt", "mine="])
def test_other_texts_are_refused(text):
    with pytest.raises(ConfigurationError, match="LABEL=CHECKPOINT"):
        parse_networks((text,))


def test_a_network_that_the_run_has_not_is_named(runs):
    with pytest.raises(Exception, match="expected a network 'teacher', found student"):
        CheckpointEngine(runs / "student" / CHECKPOINT, "teacher")


@pytest.mark.parametrize("label", ["chpnet", "cg-sense", "zero-filled", "bart tv"])
def test_the_label_of_another_row_is_refused(runs, label):
    """`average` would make one row of both, and the model's card would tell their mean."""
    with pytest.raises(ConfigurationError, match=f"label of its own, found '{label}' twice"):
        parse_networks((f"{label}={runs / 'student' / CHECKPOINT}",))


def test_a_label_that_is_given_twice_is_refused(runs):
    texts = [f"mine={runs / name / CHECKPOINT}:{name}" for name in ("student", "teacher")]
    with pytest.raises(ConfigurationError, match="found 'mine' twice"):
        parse_networks(tuple(texts))


def test_what_the_table_tells_of_a_network(runs):
    told = facts_of(CheckpointEngine(runs / "unet" / CHECKPOINT, "unet").card)
    assert (told["name"], told["steps"], told["seed"]) == ("unet/unet", 2, 3)
    assert told["parameters"] > 1000
    # two convolutions of 3 x 3 from 3 to 4 and to 4 channels, and more: at full resolution
    assert 9 * (12 + 16) * 320**2 / 1e9 < told["gmac_320"] < 1
