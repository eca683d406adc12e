import pytest
import torch

from chpnet_training.dataset import Slices, collate
from chpnet_training.runs import build_network
from chpnet_training.supervised import Supervised, difficulty_weights
from tests.training.tiny import tiny_bank
from tests.training.tiny_runs import cpu, recipe_for_all


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    bank = tiny_bank(tmp_path_factory.mktemp("bank") / "bank.h5")
    slices = Slices(bank, "train", recipe_for_all(simulation={"strips": 2}))
    return collate(slices[0])


def test_easy_slices_count_more_a_pixel(batch):
    weights = difficulty_weights(batch)
    assert weights.shape == (2,)
    errors = (batch.start - batch.target).abs().mean(dim=(1, 2, 3))
    assert (weights.argsort() == errors.argsort(descending=True)).all()
    batch.start, kept = batch.target, batch.start
    assert difficulty_weights(batch).tolist() == pytest.approx([2.5, 2.5])
    batch.start = kept


@pytest.mark.parametrize("name", ["student", "teacher", "unet"])
def test_a_batch_is_learned_by_heart(batch, name):
    recipe = recipe_for_all(20, 20, optimizer={"learning_rate": 4e-3, "average": 0.5})
    learner = Supervised(cpu(), build_network(recipe, name), recipe, name)
    told = [learner.step(batch, number) for number in range(20)]
    assert told[-1]["loss"] < 0.97 * told[0]["loss"]
    assert told[-1]["train_psnr"] > told[0]["train_psnr"]
    parts = told[0]["image"] + 0.3 * told[0]["edge"] + 0.1 * (1 - told[0]["ssim"])
    assert told[0]["loss"] == pytest.approx(parts, rel=1e-5)
    assert set(learner.networks()) == {name}
    images = [
        network(batch.start, batch.adjoint, batch.normal, batch.noise)
        for network in (learner.evaluated, build_network(recipe, name))
    ]
    better, worse = (float((image - batch.target).norm().detach()) for image in images)
    assert better < worse
    assert not any(p.requires_grad for p in learner.evaluated.parameters())


def test_the_weights_of_the_loss_are_the_recipes(batch):
    torch.manual_seed(0)
    told = []
    for loss in ({"edge": 0.0, "ssim": 0.0}, {"edge": 2.0, "ssim": 0.0}):
        recipe = recipe_for_all(loss=loss)
        learner = Supervised(cpu(), build_network(recipe, "student"), recipe)
        told.append(learner.step(batch, 0))
    assert told[0]["loss"] == pytest.approx(told[0]["image"])
    assert told[1]["loss"] == pytest.approx(told[1]["image"] + 2 * told[1]["edge"])
