import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from chpnet_stream.errors import ConfigurationError
from chpnet_training.recipe import Recipe, differences, load_recipe

FOLDER = Path(__file__).parents[2] / "configs" / "training"
STUDIES = sorted(path for path in FOLDER.glob("*.yaml") if "recipe:" in path.read_text("utf-8"))
RECIPES = sorted(set(FOLDER.glob("*.yaml")) - set(STUDIES))


def sections(model: type[BaseModel], place: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section of a recipe at any depth, the recipe itself first."""
    yield place, model
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from sections(kind, f"{place}.{name}" if place else name)


SECTIONS = pytest.mark.parametrize(
    ("place", "model"),
    list(sections(Recipe)),
    ids=lambda value: value if isinstance(value, str) else "",
)


def write(tmp_path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_shipped_recipes_are_valid(path):
    assert load_recipe(path).name


def test_there_are_recipes():
    assert RECIPES


def test_all_sections_are_found():
    found = {place for place, _ in sections(Recipe)}
    assert {"", "student", "warmup", "optimizer", "distillation", "superres"} <= found


@SECTIONS
def test_every_setting_is_described(place, model):
    for name, field in model.model_fields.items():
        assert field.description, f"{place}.{name}"
        assert field.description[-1] != ".", f"{place}.{name}"


def misspelt(name: str) -> str:
    """The name with its last letter doubled."""
    return name + name[-1]


@SECTIONS
def test_a_misspelt_setting_is_told_the_near_one(tmp_path, place, model):
    """In the file and on the command line, at every depth."""
    for name in model.model_fields:
        wrong = misspelt(name)
        assert wrong not in model.model_fields
        key = f"{place}.{wrong}" if place else wrong
        says = rf"unknown setting '{re.escape(key)}'; did you mean '{name}'\?"
        with pytest.raises(ConfigurationError, match=says):
            load_recipe(write(tmp_path, "name: a\n"), (f"{key}=1",))
        text = f"name: a\n{place}:\n  {wrong}: 1\n" if place else f"name: a\n{wrong}: 1\n"
        with pytest.raises(ConfigurationError, match=says):
            load_recipe(write(tmp_path, text))


@SECTIONS
def test_defaults_are_valid_and_survive_a_checkpoint(place, model):
    if place:
        assert model.model_validate(model().model_dump(mode="json")) == model()


def test_differences_are_named():
    one = Recipe(name="a")
    stored = one.model_dump(mode="json")
    assert differences(stored, one) == []
    del stored["distillation"]["teacher_every"]  # a setting that came later
    assert differences(stored, one) == []
    other = Recipe(name="a", warmup=one.optimizer, seed=3)
    assert differences(stored, other)[0] == "seed is 0 there and 3 here"
    assert "warmup.steps is None there and 10000 here" in differences(stored, other)
    stored["loss"]["gone"] = 1
    assert differences(stored, one) == ["unknown setting 'loss.gone'; known here: edge, ssim"]


def test_the_teacher_has_an_optimizer_of_its_own():
    one = Recipe.model_validate({"name": "a", "warmup": {"steps": 5}, "optimizer": {"steps": 9}})
    assert one.for_teacher().optimizer.steps == 5
    alone = Recipe.model_validate({"name": "a", "optimizer": {"steps": 9}})
    assert alone.for_teacher() == alone
    assert one.with_optimizer(learning_rate=1.0).optimizer.steps == 9


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nseed: 1\nseed: 2\n", "'seed' in line 2 and again in line 3, expected every"),
        ("name: a\nloss: {edge: 1, ssim: 2, edge: 3}\n", "'edge' in line 2 and again in line 2"),
        ("name: a\ndata:\n  batch: 2\nseed: 1\ndata: {fixed: 4}\n", "'data' in line 2 and again"),
    ],
)
def test_a_setting_that_stands_there_twice_is_told(tmp_path, text, message):
    with pytest.raises(ConfigurationError, match=message):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize("name", ["a/b", "a\\b", "../a", ".a", "", "a\nb"])
def test_a_name_must_be_one_for_files(tmp_path, name):
    with pytest.raises(ConfigurationError, match="expected a name for files"):
        load_recipe(write(tmp_path, "name: x\n"), (f"name={json.dumps(name)}",))


def floats(model: type[BaseModel], place: str) -> Iterator[str]:
    """Settings with a decimal fraction in them."""
    for name, field in model.model_fields.items():
        kinds = str(field.annotation)
        if "float" in kinds:
            wanted = "[{0}, {0}]" if "tuple" in kinds else "{0}"
            yield f"{place}.{name}={wanted}"


FLOATS = [
    setting
    for place, model in sections(Recipe)
    if place not in ("", "teacher")
    for setting in floats(model, place)
]


@pytest.mark.parametrize("setting", FLOATS)
@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_numbers_are_finite(tmp_path, setting, value):
    override = setting.format(value)
    with pytest.raises(ConfigurationError, match=re.escape(override.partition("=")[0])):
        load_recipe(write(tmp_path, "name: a\n"), (override,))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("seed=-1",), "'seed' = -1"),
        (("data.seed=-1",), r"'data\.seed' = -1"),
        (("simulation.calibration=[5, 9]",), r"'simulation\.calibration' .*at least 6 lines"),
        (("simulation.accelerations=[4, 0]",), r"'simulation\.accelerations\.1' = 0"),
        (("superres.factors=[2, 0]",), r"'superres\.factors\.1' = 0"),
        (("superres.factors=[3]",), "expected a matrix that 3 .of factors. divides, found 128"),
        (("unet.widths=[8, 0]",), r"'unet\.widths\.1' = 0"),
        (
            ("simulation.matrix_x=[100, 100]", "simulation.strip=100"),
            r"'simulation': expected a strip of at most 96 columns \(matrix_x begins at 100, in",
        ),
        (("simulation.matrix_y=[6, 6]",), "expected matrix_y from at least multiple = 8"),
        (("data.batch=2", "data.fixed=5"), r"data\.fixed = 5: expected a multiple of 2"),
        (
            ("data.batch=2", "data.fixed=6", "student.task=superres"),
            r"data\.fixed = 6: expected a multiple of 4",
        ),
    ],
)
def test_what_would_fail_later_is_refused_at_once(tmp_path, settings, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_recipe(write(tmp_path, "name: a\n"), settings)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


BOMB = "".join(f"k{i}: &a{i} [{', '.join(9 * [f'*a{i - 1}'])}]\n" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"student: &a0 [x]\n{BOMB}name: *a11\n", r"an alias \(\*name\), expected every value"),
        ("seed: &a 1\nsteps: *a\n", "an alias"),
        (5_000 * "[" + 5_000 * "]", "recursion"),
        (f"seed: {10_000 * '9'}", "digits"),
        ("name: 2026-99-99", "month must be in 1..12"),
    ],
    ids=["aliases of aliases", "one alias", "deep", "digits", "no date"],
)
def test_yaml_that_can_not_be_read_is_told(tmp_path, text, says):
    with pytest.raises(ConfigurationError, match=f"expected a YAML recipe, found: .*{says}"):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize("value", ["&a [*a]", "2026-99-99", "[", 10_000 * "9"])
def test_values_of_set_that_can_not_be_read_are_told(value):
    with pytest.raises(ConfigurationError, match="expected a value in YAML"):
        load_recipe(RECIPES[0], (f"seed={value}",))
