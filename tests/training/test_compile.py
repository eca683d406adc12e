"""Plans of real models by `chpnet-train compile`, without a GPU, for a GPU that is named."""

import json
import shutil

import pytest
import torch

from chpnet_stream.engines.choice import make_engine
from chpnet_stream.engines.plan_key import PlanShapes
from chpnet_stream.engines.tensorrt import find_plans, known_shapes, plan_key
from chpnet_stream.errors import ModelError
from chpnet_stream.network.weights import find_model
from chpnet_training.cli import main
from tests.engines.real_rtx import real_rtx

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
QUICK = ("--slices", "2", "--matrix", "64")


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(autouse=True)
def rtx(tmp_path, monkeypatch):
    """TensorRT for RTX, and a plan cache that is not the user's."""
    monkeypatch.setenv("CHPNET_PLAN_CACHE", str(tmp_path / "cache"))
    return real_rtx()


@pytest.fixture(scope="module")
def compiled(tiny_model, tmp_path_factory):
    """Folder of a model with fp16 plans for sm_86. Read it, or work on a copy."""
    real_rtx()
    out = tmp_path_factory.mktemp("compiled") / "new"
    words = ("--target", "sm_86", "--package", "tensorrt-rtx", "--out", out, *QUICK)
    assert run("compile", tiny_model(), *words) == 0
    return out


@pytest.fixture
def copied(compiled, tmp_path):
    return shutil.copytree(compiled, tmp_path / "copy")


def test_the_card_names_its_plans(compiled, rtx):
    model = find_model(compiled / "tiny.json")
    model.verify()
    (record,) = model.card.plans
    assert (record.package, record.version) == ("tensorrt-rtx", rtx.version)
    assert (record.target, record.precision) == ("sm_86", "fp16")
    assert record.shapes == ("1x64x64", "1x256x256", "4x512x512")
    assert len(record.files) == len(model.card.onnx_sha256)
    assert record.parity["images"] == 2
    assert record.parity["output_db"] > 60
    assert abs(record.parity["loss_db"]) < record.tolerance == 0.05
    assert not record.overridden
    assert record.measured_on.endswith("the plans were not run")
    assert sorted(p.name for p in compiled.iterdir()) == sorted(
        ["tiny.json", *(p.name for p in model.files()), "tiny.tensorrt-rtx.fp16.sm_86.plan.json"]
    )


def test_engines_find_them_by_their_key(compiled, rtx, tmp_path):
    model = find_model(compiled / "tiny.json")
    shapes = known_shapes(model, rtx, "sm_86", "fp16")
    key = plan_key(model, rtx, "sm_86", "fp16", shapes)
    plans = find_plans(model, key, tmp_path)
    assert plans is not None
    assert [len(plan) > 10_000 for plan in plans] == [True, True]
    for other in (("sm_89", "fp16"), ("sm_86", "fp32")):
        assert find_plans(model, plan_key(model, rtx, *other, shapes), tmp_path) is None
    wider = PlanShapes.parse("1x64x64", "1x256x256", "1x1024x1024")
    assert find_plans(model, plan_key(model, rtx, "sm_86", "fp16", wider), tmp_path) is None


def test_a_damaged_plan_is_not_found(copied, rtx, tmp_path, caplog):
    model = find_model(copied / "tiny.json")
    (record,) = model.card.plans
    path = copied / next(iter(record.files))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    key = plan_key(model, rtx, "sm_86", "fp16", PlanShapes.parse(*record.shapes))
    assert find_plans(model, key, tmp_path) is None
    assert "is damaged" in caplog.text
    with pytest.raises(ModelError, match="expected SHA-256"):
        model.verify()


def test_a_second_precision_is_added(copied, capsys):
    card = copied / "tiny.json"
    words = ("--precision", "fp32", "--target", "8.6", "--shapes", *["1x64x64"] * 3, *QUICK)
    assert run("compile", card, *words, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["precision"] == "fp32"
    assert shown["parity"]["output_db"] > 90
    model = find_model(card)
    model.verify()
    assert [record.precision for record in model.card.plans] == ["fp16", "fp32"]
    assert model.card.plans[1].shapes == ("1x64x64",) * 3
    # again: replaced, not doubled
    assert run("compile", card, *words, "--tolerance", 0.2) == 0
    model = find_model(card)
    model.verify()
    assert [record.precision for record in model.card.plans] == ["fp16", "fp32"]
    assert (model.card.plans[1].tolerance, model.card.plans[1].overridden) == (0.2, True)


def test_plans_that_are_gone_are_made_anew(copied, capsys):
    card = copied / "tiny.json"
    (record,) = find_model(card).card.plans
    gone = copied / next(iter(record.files))
    gone.unlink()
    assert run("compile", card, "--target", "sm_86", "--package", "tensorrt-rtx", *QUICK) == 0
    model = find_model(card)
    model.verify()
    assert [(p.target, p.precision) for p in model.card.plans] == [("sm_86", "fp16")]
    # and they are no reason not to make others
    (copied / next(iter(model.card.plans[0].files))).unlink()
    capsys.readouterr()
    assert run("compile", card, "--target", "sm_89", "--package", "tensorrt-rtx", *QUICK) == 0
    model = find_model(card)
    model.verify()
    assert [(p.target, p.precision) for p in model.card.plans] == [("sm_89", "fp16")]
    kind = "tensorrt-rtx fp16 sm_86"
    said = " ".join(capsys.readouterr().err.split())
    assert f"the card no longer names plans ({kind}): expected the model file" in said


def test_a_compiled_model_runs_on_every_other_engine(compiled):
    model = find_model(compiled / "tiny.json")
    assert make_engine("onnx", model, torch.device("cpu")).name == "onnx-cpu"


@NO_GPU
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "expected --target on a machine without a GPU"),
        (("--target", "sm_90", "--package", "tensorrt-rtx"), "expected --target sm_89"),
        (("--target", "sm_90"), "TensorRT for RTX 1.7 compiles for no others"),
        (("--target", "sm_86", "--package", "tensorrt"), "found no GPU here; take --package tens"),
        (("--target", "sm_86", "--precision", "int8"), "convolutions; expected precision fp16"),
        (("--target", "hopper"), "--target: found 'hopper', expected one such as sm_86"),
        (("--target", "sm_86", "--shapes", "1x64x64", "1x60x64", "1x64x64"), "expected the small"),
        (("--target", "sm_86", "--shapes", "1x66x64", "1x66x64", "1x66x64"), "take 68"),
        (("--target", "sm_86", "--matrix", "50"), "expected a multiple of 8, found 50"),
        (("--target", "sm_86", "--matrix", "48"), "a matrix inside --shapes, from 64 x 64 to 512"),
        (("--target", "sm_86", "--data", "missing.h5", *QUICK), "missing.h5"),
    ],
)
def test_what_can_not_be_is_refused_in_one_line(tiny_model, tmp_path, capsys, words, says):
    assert run("compile", tiny_model(), "--out", tmp_path / "out", *words) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_beyond_the_tolerance_nothing_is_written(tiny_model, tmp_path, capsys, monkeypatch):
    from chpnet_training.parity import TOLERANCES, Tolerance

    monkeypatch.setitem(TOLERANCES, "fp16", Tolerance(200.0, 0.05))
    words = ("--target", "sm_86", "--out", tmp_path / "out", *QUICK)
    assert run("compile", tiny_model(), *words) == 2
    assert "expected at least 200 dB; nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_model_of_that_name_is_kept(compiled, tiny_model, tmp_path, capsys):
    shutil.copytree(tiny_model("chpnet", "superres").parent, tmp_path / "out")
    before = (tmp_path / "out" / "tiny.json").read_bytes()
    words = ("--target", "sm_86", "--out", tmp_path / "out", *QUICK)
    assert run("compile", tiny_model(), *words) == 2
    assert "found another model of that name" in capsys.readouterr().err
    assert (tmp_path / "out" / "tiny.json").read_bytes() == before


def test_networks_for_images_compile_too(tiny_model, tmp_path):
    out = tmp_path / "out"
    words = ("--target", "sm_120", "--out", out, *QUICK)
    assert run("compile", tiny_model("chpnet", "superres"), *words) == 0
    (record,) = find_model(out / "tiny.json").card.plans
    assert record.target == "sm_120"
    assert len(record.files) == 1


@pytest.mark.parametrize(
    "shapes",
    [("1x256x256",) * 3, ("1x64x64", "1x256x256", "4x512x512")],
    ids=["static", "dynamic"],
)
def test_the_shipped_model_is_compiled_for_a_gpu_that_is_not_here(tmp_path, capsys, shapes):
    out = tmp_path / "out"
    words = ("--target", "sm_89", "--shapes", *shapes, "--out", out, "--slices", 2, "--json")
    assert run("compile", "chpnet-rt", *words, "--package", "tensorrt-rtx") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["target"], told["precision"]) == ("sm_89", "fp16")
    assert tuple(told["shapes"]) == shapes
    assert told["parity"]["output_db"] > 60
    model = find_model(out / "chpnet-rt.json")
    model.verify()
    assert len(told["files"]) == len(model.card.onnx_sha256)


def test_help_has_the_table(capsys):
    assert run("compile", "--help") == 0
    text = capsys.readouterr().out
    assert "tensorrt-rtx  fp16  sm_75 sm_80 sm_86 sm_89 sm_120 sm_121" in text
    assert "tensorrt-rtx  int8  not offered: TensorRT for RTX has int8 for" in text
