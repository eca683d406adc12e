from pathlib import Path

import pytest

from chpnet_stream.errors import ConfigurationError
from chpnet_training.recipe import Recipe, load_recipe

RECIPES = sorted((Path(__file__).parents[2] / "configs" / "training").glob("*.yaml"))


def write(tmp_path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_shipped_recipes_are_valid(path):
    assert load_recipe(path).name


def test_there_are_recipes():
    assert RECIPES


def test_defaults_and_values(tmp_path):
    recipe = load_recipe(
        write(tmp_path, "name: a\nseed: 4\nstudent: {widths: [8, 16]}\nloss: {ssim: 0.2}\n")
    )
    assert recipe.student.widths == (8, 16)
    assert recipe.loss.ssim == 0.2
    assert recipe.loss.edge == 0.3
    assert recipe.optimizer.steps == 10_000
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_overrides(tmp_path):
    path = write(tmp_path, "name: a\noptimizer: {steps: 5}\n")
    recipe = load_recipe(
        path, ("optimizer.steps=7", "student.widths=[4, 8]", "name=b", "simulation.noise=[0.1, 1]")
    )
    assert recipe.optimizer.steps == 7
    assert recipe.student.widths == (4, 8)
    assert recipe.name == "b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\noptimiser: {}\n", "unknown setting 'optimiser'; did you mean 'optimizer'"),
        (
            "name: a\noptimizer: {learning_rat: 1}\n",
            r"unknown setting 'optimizer\.learning_rat'; did you mean 'learning_rate'",
        ),
        ("name: a\nloss: {zzz: 1}\n", r"unknown setting 'loss\.zzz'; known here: edge, ssim"),
        ("name: a\nstudent: {width: [4, 8]}\n", "did you mean 'widths'"),
        ("name: a\noptimizer: {steps: many}\n", r"'optimizer\.steps' = 'many': Input should be"),
        ("name: a\noptimizer: {steps: 0}\n", "greater than or equal to 1"),
        ("name: a\nstudent: {widths: [4, x]}\n", r"'student\.widths\.1' = 'x'"),
        ("seed: 1\n", "expected the setting 'name', found none"),
        ("name: a\noptimizer: 3\n", "'optimizer' = 3"),
        ("- a\n", "expected a mapping of settings, found list"),
        ("", "found NoneType"),
        ("name: [a\n", "expected a YAML recipe"),
    ],
)
def test_faults_are_named_in_one_line(tmp_path, text, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_recipe(write(tmp_path, text))
    assert "recipe.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("steps", r"--set steps: expected a\.b=value"),
        ("=3", r"expected a\.b=value"),
        ("name.x=3", "'name' is not a section"),
        ("seed=[1", "expected a value in YAML"),
        ("optimizer.step=3", "did you mean 'steps'"),
    ],
)
def test_faulty_overrides_are_named(tmp_path, override, message):
    with pytest.raises(ConfigurationError, match=message):
        load_recipe(write(tmp_path, "name: a\n"), (override,))


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        load_recipe(tmp_path / "none.yaml")
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="expected a YAML recipe"):
        load_recipe(path)
