from pathlib import Path

import pytest
import yaml

from chpnet_stream.errors import ConfigurationError
from chpnet_training.study import ARMS, load_study
from tests.training.tiny_study import study_content, tiny_study, write_study

STUDIES = sorted((Path(__file__).parents[2] / "configs" / "training").glob("ablation*.yaml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.name)
def test_shipped_studies_are_valid(path):
    study = load_study(path)
    assert {"none", "frozen", "dynamic"} <= study.arms.keys()
    assert len(study.seeds) >= 3


def test_there_are_studies_of_both_tasks_with_all_arms():
    studies = [study for study in map(load_study, STUDIES) if ARMS.keys() <= study.arms.keys()]
    assert {study.recipe.student.task for study in studies} == {"kspace", "superres"}


def test_a_study_without_arms_has_the_four(tmp_path):
    content = study_content()
    del content["arms"]
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    study = load_study(path)
    assert list(study.arms) == ["none", "frozen", "dynamic-parameters", "dynamic"]
    assert study.arms == tiny_study(arms=ARMS).arms


@pytest.mark.parametrize("seed", [0, 7])
def test_arms_differ_in_the_distillation_only(seed):
    study = tiny_study(arms=ARMS)
    recipes = [study.arm_recipe(arm, seed) for arm in study.arms]
    assert len({recipe.distillation for recipe in recipes}) == 4
    rest = [recipe.model_dump(exclude={"distillation"}) for recipe in recipes]
    assert all(content == rest[0] for content in rest)
    assert rest[0]["seed"] == seed
    # the data are the same for all seeds; the first weights and the order are not
    assert rest[0]["data"]["seed"] == study.recipe.data_seed


def test_what_the_four_arms_switch():
    study = tiny_study(arms=ARMS)
    none, frozen, parameters, dynamic = (study.arm_recipe(a, 0).distillation for a in study.arms)
    assert (none.weight, none.hints, none.iterates) == (0, 0, 0)
    assert frozen.weight == dynamic.weight > 0
    switches = ("correction", "feedback", "parameters", "structure")
    assert not any(getattr(frozen, switch) for switch in switches)
    assert parameters.correction
    assert parameters.feedback
    assert parameters.parameters
    assert not parameters.structure
    assert dynamic.structure
    assert dynamic == study.recipe.distillation


def test_a_condition_changes_the_test_only():
    study = tiny_study()
    recipe = study.condition_recipe(study.conditions[1])
    assert recipe.simulation.accelerations == (3,)
    assert recipe.validation.slices == study.test_slices
    assert recipe.data_seed == study.recipe.data_seed
    assert study.recipe.simulation.accelerations == (2, 3)
    assert recipe.student == study.recipe.student


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"arms": {"none": {"weigth": 0.0}}},
            r"unknown setting 'recipe\.distillation\.weigth'; did you mean 'weight'\? \(in the arm",
        ),
        ({"arms": {"a": {}, "b": {"struktur": False}}}, r"did you mean 'structure'\?.*arm 'b'"),
        ({"arms": {"a": {"weight": 2}}}, r"less than or equal to 1 \(in the arm 'a'\)"),
        ({"arms": {"teacher": {}}}, "none of start, teacher, unet, found 'teacher'"),
        ({"arms": {"../a": {}}}, r"found '\.\./a'"),
        ({"arms": {}}, "at least 1 item"),
        ({"seeds": [1, 1]}, "every seed once"),
        ({"seeds": []}, "at least 1 item"),
        (
            {"conditions": [{"name": "x", "settings": {"simulation.acceleration": [2]}}]},
            r"did you mean 'accelerations'\? \(in the condition 'x'\)",
        ),
        (
            {"conditions": [{"name": "x", "settings": {"simulatoin.accelerations": [2]}}]},
            r"did you mean 'simulation'\? \(in the condition 'x'\)",
        ),
        ({"conditions": [{"name": "x"}, {"name": "x"}]}, "a name of its own"),
        ({"conditions": []}, "at least 1 item"),
        ({"name": "a/b"}, "expected a name for files"),
        ({"seed": 3}, "unknown setting 'seed'; did you mean 'seeds'"),
    ],
)
def test_mistakes_are_found_at_once(tmp_path, changes, message):
    path = write_study(tmp_path / "study.yaml", **changes)
    with pytest.raises(ConfigurationError, match=message) as error:
        load_study(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_arms_make_the_same_steps(tmp_path):
    path = write_study(tmp_path / "study.yaml")
    with pytest.raises(ConfigurationError, match=r"expected validation\.patience = 0.*found 2"):
        load_study(path, ("recipe.validation.patience=2",))


def test_settings_can_be_replaced(tmp_path):
    path = write_study(tmp_path / "study.yaml")
    study = load_study(path, ("seeds=[4]", "recipe.optimizer.steps=9", "arms.dynamic.pull=0.25"))
    assert study.seeds == (4,)
    assert study.arm_recipe("none", 4).optimizer.steps == 9
    assert study.arm_recipe("dynamic", 4).distillation.pull == 0.25
    with pytest.raises(ConfigurationError, match="did you mean 'pull'"):
        load_study(path, ("arms.dynamic.pul=0.25",))
