"""Networks by name, what they begin with, what they are validated with."""

from pathlib import Path

import pytest
import torch

from chpnet_stream.errors import ConfigurationError, InputError
from chpnet_stream.network.weights import find_model, load_student
from chpnet_training.ablation import adopt_teacher
from chpnet_training.beginning import note_origin
from chpnet_training.dataset import FixedSlices, Slices
from chpnet_training.optimization import TrainingError
from chpnet_training.recipe import Recipe
from chpnet_training.runs import (
    NETWORKS,
    Materials,
    begin_with,
    build_network,
    distillation_run,
    evaluated_network,
    supervised_run,
    training_slices,
    validation_batches,
)
from chpnet_training.trainer import BEST, CHECKPOINT
from tests.training.tiny import tiny_bank
from tests.training.tiny_runs import cpu, make_run, recipe_for_all, state_of


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("bank") / "bank.h5")


@pytest.fixture(scope="module")
def trained(bank, tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    make_run("student", recipe_for_all(), bank, folder).run()
    return folder


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("task", ["kspace", "superres"])
def test_the_same_seed_builds_the_same_network(name, task):
    recipe = recipe_for_all(student={"task": task})
    one, two = build_network(recipe, name), build_network(recipe, name)
    assert all(map(torch.equal, one.parameters(), two.parameters()))
    other = build_network(recipe.model_copy(update={"seed": 9}), name)
    assert not all(map(torch.equal, one.parameters(), other.parameters()))


def test_there_are_no_other_networks():
    with pytest.raises(ConfigurationError, match="student, teacher, unet, found 'gan'"):
        build_network(recipe_for_all(), "gan")


@pytest.mark.parametrize("file", [CHECKPOINT, BEST])
def test_a_run_begins_with_the_averaged_weights_of_another(bank, tmp_path, trained, file):
    materials = Materials(cpu(), bank, tmp_path)
    begun = supervised_run(recipe_for_all(), "student", materials, trained / file)
    assert begun.step == 0
    weights = state_of(trained, file)["networks"]["student"]
    for network in (begun.learner.evaluated, begun.learner.guarded.network):
        assert all(torch.equal(p, weights[name]) for name, p in network.state_dict().items())


def test_a_run_goes_on_only_with_what_it_began_with(bank, tmp_path, trained):
    recipe, first = recipe_for_all(), trained / CHECKPOINT
    materials = Materials(cpu(), bank, tmp_path / "run")
    supervised_run(recipe, "student", materials, first).run(stop=lambda: True)
    for initial in (first, None):  # without it, too: the weights are in the run's own checkpoint
        assert supervised_run(recipe, "student", materials, initial).step == 1
    state = state_of(trained)
    next(iter(state["networks"]["student"].values())).mul_(1.5)
    other = tmp_path / "other.ckpt"
    torch.save(state, other)
    with pytest.raises(TrainingError, match=r"--initial .*/other\.ckpt .*begun with .*last\.ckpt"):
        supervised_run(recipe, "student", materials, other)


def test_a_run_that_began_with_random_weights_takes_no_others(bank, tmp_path, trained):
    begun = make_run("student", recipe_for_all(), bank, tmp_path)
    note_origin(begun, bank)
    begun.run(stop=lambda: True)
    materials = Materials(cpu(), bank, tmp_path)
    with pytest.raises(TrainingError, match=r"last\.ckpt \(.*begun with random weights"):
        supervised_run(recipe_for_all(), "student", materials, trained / CHECKPOINT)


def test_weights_of_another_student_are_no_beginning(trained):
    recipe = recipe_for_all(student={"widths": (16, 16)})
    with pytest.raises(TrainingError, match="those of another architecture"):
        begin_with(build_network(recipe, "student"), "student", trained / CHECKPOINT)


def test_the_installed_model_is_a_beginning_by_name_and_by_path():
    model = find_model("chpnet-rt")
    recipe = Recipe(name="mine", student=model.card.student)
    expected = load_student(model).state_dict()
    for name in ("chpnet-rt", model.weights.with_suffix(".json")):
        student = build_network(recipe, "student")
        begin_with(student, "student", Path(name))
        assert all(torch.equal(expected[k], v) for k, v in student.state_dict().items())
    other = recipe_for_all()
    with pytest.raises(ConfigurationError, match="copy the 'student' section of its card"):
        begin_with(build_network(other, "student"), "student", Path("chpnet-rt"))


def test_a_teacher_must_have_been_trained(bank, tmp_path, trained):
    materials = Materials(cpu(), bank, tmp_path)
    for path, says in (
        (trained / CHECKPOINT, "expected a network 'teacher', found student"),
        (tmp_path / "none.ckpt", "found no such file"),
    ):
        with pytest.raises(TrainingError, match=says):
            distillation_run(recipe_for_all(), path, materials)


def test_validation_slices_are_those_of_the_data_seed(bank):
    recipe = recipe_for_all(data={"seed": 5}, validation={"slices": 3})
    again = recipe.model_copy(update={"seed": 8})
    one, two = validation_batches(recipe, bank), validation_batches(again, bank)
    assert len(one) == 3
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a.start, b.start)
    other = validation_batches(recipe_for_all(validation={"slices": 3}), bank)
    assert not torch.equal(one[0].noise, other[0].noise)


def test_fixed_slices_lie_where_runs_can_share_them(bank, tmp_path):
    recipe = recipe_for_all(data={"fixed": 4})
    mine = Materials(cpu(), bank, tmp_path / "run")
    assert isinstance(training_slices(recipe, mine), FixedSlices)
    assert (tmp_path / "run" / "data" / "train.pt").is_file()
    shared = Materials(cpu(), bank, tmp_path / "run", cache=tmp_path / "shared")
    assert isinstance(training_slices(recipe, shared), FixedSlices)
    assert (tmp_path / "shared" / "train.pt").is_file()
    assert isinstance(training_slices(recipe_for_all(), mine), Slices)


def test_a_network_with_a_recipe_of_another_version_is_refused(trained, tmp_path):
    state = state_of(trained)
    state["recipe"]["momentum"] = 0.9
    path = tmp_path / "old.ckpt"
    torch.save(state, path)
    with pytest.raises(TrainingError, match=r"old\.ckpt: expected a recipe .*'momentum'"):
        evaluated_network(path)


def test_data_without_validation_are_refused_before_slices_are_simulated(tmp_path):
    bare = tiny_bank(tmp_path / "bare.h5", ("train",) * 4)
    with pytest.raises(InputError, match="--validation"):
        make_run("student", recipe_for_all(data={"fixed": 4}), bare, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_network_is_scored_with_the_recipe_of_its_checkpoint(trained):
    network, recipe = evaluated_network(trained / CHECKPOINT)
    assert recipe == recipe_for_all()
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("finished", [False, True])
def test_a_teacher_that_is_not_finished_is_warned_of(bank, tmp_path, caplog, finished):
    recipe = recipe_for_all()
    teacher = make_run("teacher", recipe, bank, tmp_path / "teacher")
    assert teacher.run(stop=lambda: not finished and teacher.step == 3) is finished
    said = "teacher of 3 steps, whose run has 6"
    distillation_run(
        recipe, tmp_path / "teacher" / CHECKPOINT, Materials(cpu(), bank, tmp_path / "student")
    )
    assert (said in caplog.text) is not finished
    caplog.clear()
    adopt_teacher(tmp_path / "teacher" / CHECKPOINT, tmp_path / "study")
    assert (said in caplog.text) is not finished
    caplog.clear()
    adopt_teacher(tmp_path / "teacher" / BEST, tmp_path / "other")  # meant to be from before
    assert not caplog.text
