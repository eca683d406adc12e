"""What is behind a network's weights: images, licences, steps, other networks."""

import numpy as np
import pytest
import torch

from chpnet_stream.network.card import TrainingData
from chpnet_stream.network.weights import find_model
from chpnet_training.cmd_export import _trained_on
from chpnet_training.dataset import Slices
from chpnet_training.provenance import (
    Origin,
    Parent,
    all_steps,
    merged,
    origin_of,
    origin_of_run,
    parent_of,
    training_of,
)
from chpnet_training.store import BankWriter
from tests.physics.cases import phantom
from tests.training.tiny import tiny_bank
from tests.training.tiny_runs import recipe_for_all


def source(name: str, images: int, licence: str = "MIT") -> TrainingData:
    return TrainingData(name=name, licence=licence, images=images)


def bank_of(path, origins: dict[str, str]):
    """Images of which nothing is known but their source and split."""
    with BankWriter(path, 64) as writer:
        for _ in origins:
            writer.add(phantom((48, 48)).numpy())
        writer.finish(
            weights=np.ones(len(origins)),
            split=np.array(list(origins.values()), dtype=object),
            subjects=np.array(list(origins), dtype=object),
            origins=np.array(list(origins), dtype=object),
            manifest={"sources": {name: {"licence": name.upper()} for name in ("a", "a/b", "c")}},
        )
    return path


def test_sources_are_those_of_the_images_that_the_recipe_takes(tmp_path):
    sides = {"a/1": "train", "a/2": "train", "a/b/1": "train", "c/1": "val"}
    bank = bank_of(tmp_path / "bank.h5", sides)
    found = origin_of_run(recipe_for_all(), bank)
    assert found.data == (source("a", 2, "A"), source("a/b", 1, "A/B"))
    assert found.all_data == found.data
    assert found.measured == 0
    some = origin_of_run(recipe_for_all(data={"origin": "a/b"}), bank)
    assert some.data == (source("a/b", 1, "A/B"),)
    few = origin_of_run(recipe_for_all(data={"images": 1}), bank)
    assert sum(found.images for found in few.data) == 1


def test_measured_kspace_is_used_and_counted(raw_bank, tmp_path):
    """The dataset gives samples of measured k-space where it is kept, and the origin says so."""
    recipe = recipe_for_all(data={"origin": "phantom/a"})
    found = origin_of_run(recipe, raw_bank)
    assert (found.measured, found.data) == (1, (source("phantom", 1),))
    measured = Slices(raw_bank, "train", recipe)[0]
    simulated = Slices(tiny_bank(tmp_path / "bank.h5"), "train", recipe)[0]
    assert measured[0].target.shape[0] == 64  # lines of the scan, not of the recipe
    assert simulated[0].target.shape[0] <= 40
    assert origin_of_run(recipe_for_all(student={"task": "superres"}), raw_bank).measured == 0
    assert "1 slices of measured k-space" in _trained_on(found)
    assert "simulated" not in _trained_on(found)


def test_each_source_is_named_once():
    one, two = (source("a", 5), source("b", 2)), (source("a", 9), source("a", 1, "CC0"))
    assert merged((one, two)) == (source("a", 9), source("b", 2), source("a", 1, "CC0"))


def write_state(path, recipe, networks=("student",), **about):
    state = {"recipe": recipe.model_dump(mode="json"), "step": 30}
    state |= {"networks": {name: {} for name in networks}}
    if about:
        state["about"] = Origin(**about).model_dump(mode="json")
    torch.save(state, path)
    return state


def test_a_chain_of_runs_tells_all_data_and_steps(tmp_path):
    recipe = recipe_for_all()
    card = find_model("chpnet-rt").card
    shipped = parent_of(find_model("chpnet-rt").weights.with_suffix(".json"))
    assert shipped == parent_of(find_model("chpnet-rt").folder / "chpnet-rt.json")
    assert (shipped.steps, shipped.data, shipped.known) == (card.steps, card.data, True)
    write_state(tmp_path / "1.ckpt", recipe, data=(source("mine", 4),), initial=shipped)
    second = parent_of(tmp_path / "1.ckpt")
    assert second.steps == card.steps + 30
    assert second.data == (source("mine", 4), *card.data)
    assert second.known
    state = write_state(tmp_path / "2.ckpt", recipe, data=(source("more", 1),), initial=second)
    origin = origin_of(state)
    assert all_steps(state) == card.steps + 60
    assert origin.all_data == (source("more", 1), source("mine", 4), *card.data)
    said = training_of(state, origin)
    assert said.startswith("supervised on simulated scans, without a teacher; 30 steps, begun with")
    assert f"a student of the recipe 'tiny' of {card.steps + 30:,} steps" in said
    assert f"the model chpnet-rt ({card.checksum})" in said


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({}, "from a teacher that learned while it taught"),
        ({"parameters": False, "structure": False}, "from a frozen teacher"),
    ],
)
def test_a_distilled_student_is_called_so(tmp_path, how, says):
    recipe = recipe_for_all(distillation=how)
    teacher = Parent(name="a teacher of the recipe 'x'", steps=9, training="", known=False)
    state = write_state(
        tmp_path / "x.ckpt", recipe, ("student", "teacher"), data=(source("a", 2),), teacher=teacher
    )
    said = training_of(state, origin_of(state))
    assert said.startswith(f"distilled on simulated scans {says}; ")
    assert "not all data of a teacher of the recipe 'x' are known" in said
    assert all_steps(state) == 30  # the teacher's steps are not the student's


def test_without_its_weight_a_teacher_teaches_nothing(tmp_path):
    recipe = recipe_for_all(distillation={"weight": 0.0})
    state = write_state(tmp_path / "x.ckpt", recipe, ("student", "teacher"), measured=1)
    said = training_of(state, origin_of(state))
    assert said == "supervised on measured k-space, without a teacher"


def test_checkpoints_of_older_versions_do_not_know_it(tmp_path):
    state = write_state(tmp_path / "x.ckpt", recipe_for_all())
    assert origin_of(state) is None
    assert all_steps(state) == 30
    assert not parent_of(tmp_path / "x.ckpt").known
    assert training_of(state, None).endswith("what it began with is not recorded")
