"""What a study is scored on is neither trained on nor looked at while training."""

import numpy as np
import pytest
import torch

from chpnet_training.ablation_scores import score_all
from chpnet_training.bank import SourceBank
from chpnet_training.dataset import Slices
from chpnet_training.recipe import Recipe
from chpnet_training.runs import validation_batches
from chpnet_training.unseen import UnseenSlices, unseen_batches, unseen_split
from tests.training.tiny import tiny_bank
from tests.training.tiny_runs import recipe_for_all
from tests.training.tiny_study import tiny_study


@pytest.fixture(scope="module")
def with_test(tmp_path_factory):
    sides = ("train", "test", "test", "val")
    return tiny_bank(tmp_path_factory.mktemp("test") / "bank.h5", sides)


@pytest.fixture(scope="module")
def without_test(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("val") / "bank.h5")


def both_tasks(**sections) -> list[Recipe]:
    return [
        recipe_for_all(student={"task": task}, validation={"slices": 4}, **sections)
        for task in ("kspace", "superres")
    ]


def test_test_images_are_taken_where_there_are_some(with_test, without_test):
    for recipe in both_tasks():
        assert UnseenSlices(with_test, recipe).indices.tolist() == [1, 2]
        assert UnseenSlices(without_test, recipe).indices.tolist() == [3]
        assert UnseenSlices(with_test, recipe).split == "test"
        assert UnseenSlices(without_test, recipe).split == "val"


def test_test_images_of_another_origin_do_not_count(with_test):
    bank = SourceBank.load(with_test)
    assert unseen_split(bank, recipe_for_all(data={"origin": "phantom/b"})) == "test"
    assert unseen_split(bank, recipe_for_all(data={"origin": "phantom/d"})) == "val"


@pytest.mark.parametrize("recipe", both_tasks(), ids=lambda recipe: recipe.student.task)
def test_no_test_slice_is_a_slice_of_the_validation(with_test, without_test, recipe):
    """Same subjects or not: no start, truth or noise is that of the validation, or of training."""
    for bank in (with_test, without_test):
        seen = [batch.start for batch in validation_batches(recipe, bank)]
        seen += [validation.target for validation in validation_batches(recipe, bank)]
        test = unseen_batches(recipe, bank)
        assert len(test) == 4
        for batch in test:
            for image in (batch.start, batch.target):
                assert not any(
                    image.shape == other.shape and torch.equal(image, other) for other in seen
                )
        numbers = {UnseenSlices(bank, recipe).seed, *_seeds(bank, recipe)}
        assert len(numbers) == 3


def _seeds(bank, recipe):
    return [Slices(bank, split, recipe).seed for split in ("train", "val")]


def test_test_slices_are_the_same_for_every_seed(without_test):
    recipe = recipe_for_all(data={"seed": 5}, validation={"slices": 2})
    one, two = (
        unseen_batches(recipe.model_copy(update={"seed": seed}), without_test) for seed in (0, 8)
    )
    assert all(torch.equal(a.start, b.start) for a, b in zip(one, two, strict=True))


def test_scores_tell_their_split(finished_study, with_test, tmp_path):
    bank, _ = finished_study
    for data, split in ((bank, "val"), (with_test, "test")):
        rows = score_all(tiny_study(), data, tmp_path)  # nothing is trained there: the start
        assert {row["split"] for row in rows} == {split}
        assert {row["network"] for row in rows} == {"start"}
        assert np.isfinite([row["psnr"] for row in rows]).all()
