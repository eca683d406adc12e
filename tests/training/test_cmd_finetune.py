"""`chpnet-train finetune` from the shipped model or a checkpoint, and the card of its best."""

import json

import pytest
import torch

from chpnet_stream.network.card import TrainingData
from chpnet_stream.network.weights import find_model, load_student
from chpnet_training.cli import main
from chpnet_training.provenance import origin_of
from tests.training.test_cli import CHECKOUT, QUICK, TINY
from tests.training.tiny import tiny_bank
from tests.training.tiny_runs import state_of

SHIPPED = CHECKOUT / "configs" / "training" / "chpnet-rt.yaml"
PHANTOM = TrainingData(name="phantom", licence="MIT", images=3)
TEACHER = {"teacher.width": "8", "teacher.window": "4", "warmup.steps": "4", "warmup.warmup": "1"}
SMALL = {key: value for key, value in TINY.items() if not key.startswith("student.")}


def run(capsys, *words: object) -> dict:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, words), "--json"])
    told = capsys.readouterr()
    assert stop.value.code == 0, told.err
    return json.loads(told.out)


def settings(changes: dict[str, str]) -> list[str]:
    return [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("bank") / "data.h5")


def test_from_the_shipped_model_by_name_and_by_card(bank, tmp_path, capsys):
    shipped = load_student(find_model("chpnet-rt")).state_dict()
    card = find_model("chpnet-rt").weights.with_suffix(".json")
    common = ["--data", bank, "--workers", 0, "--rate", "1e-9"]
    common += settings(SMALL | {"optimizer.steps": "1", "optimizer.warmup": "0"})
    for number, model in enumerate(("chpnet-rt", card)):
        out = tmp_path / str(number)
        told = run(capsys, "finetune", SHIPPED, model, "--out", out, *common)
        assert told["finished"] is True
        tuned = state_of(out)["networks"]["student"]
        origin = origin_of(state_of(out))
        assert origin.initial.name.startswith("the model chpnet-rt (")
        assert origin.all_data == (PHANTOM, *find_model("chpnet-rt").card.data)
        for name, weights in shipped.items():  # it began there, at a rate of nearly nothing
            torch.testing.assert_close(tuned[name], weights, atol=1e-6, rtol=0)


def test_from_a_checkpoint_at_a_tenth_of_the_rate_to_a_model(bank, tmp_path, capsys):
    common = ["--data", bank, "--workers", 0, *settings(TINY)]
    run(capsys, "student", QUICK, "--out", tmp_path / "one", *common)
    told = run(
        capsys,
        "finetune",
        QUICK,
        tmp_path / "one" / "best.ckpt",
        "--out",
        tmp_path / "two",
        *common,
    )
    assert told["step"] == 4
    rates = [
        state_of(tmp_path / run)["recipe"]["optimizer"]["learning_rate"] for run in ("one", "two")
    ]
    assert rates[1] == pytest.approx(rates[0] / 10)
    found = run(
        capsys,
        "export",
        tmp_path / "two" / "best.ckpt",
        "--data",
        bank,
        "--out",
        tmp_path / "model",
    )
    best = state_of(tmp_path / "two", "best.ckpt")
    begun = state_of(tmp_path / "one", "best.ckpt")
    model = find_model(found["card"])
    model.verify()
    assert model.card.steps == begun["step"] + best["step"]
    assert model.card.data == (PHANTOM,)
    assert model.card.licence == "not stated"
    assert model.card.training == (
        f"supervised on simulated scans, without a teacher; {best['step']} steps, begun with a "
        f"student of the recipe 'chpnet-quick' of {begun['step']} steps (supervised on simulated "
        "scans, without a teacher)"
    )
    scores = model.card.metrics["simulated scans, held-out images"]
    assert scores["psnr_db"] == pytest.approx(best["best"], abs=0.05)


@pytest.mark.parametrize(("verb", "network"), [("student", "student"), ("teacher", "teacher")])
def test_every_training_can_begin_with_another(bank, tmp_path, capsys, verb, network):
    common = ["--data", bank, "--workers", 0, *settings(TINY | TEACHER)]
    run(capsys, verb, QUICK, "--out", tmp_path / "one", *common)
    first = tmp_path / "one" / "best.ckpt"
    common += settings({f"{part}.learning_rate": "1e-9" for part in ("optimizer", "warmup")})
    run(capsys, verb, QUICK, "--out", tmp_path / "two", "--initial", first, *common)
    before = state_of(tmp_path / "one", "best.ckpt")["networks"][network]
    after = state_of(tmp_path / "two")["networks"][network]
    assert before.keys() == after.keys()
    for name, weights in before.items():
        torch.testing.assert_close(after[name], weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "words", [("teacher",), ("student", "--network", "unet")], ids=["teacher", "unet"]
)
def test_models_hold_students_only(bank, tmp_path, capsys, words):
    given = (*words, QUICK, "--data", bank, "--out", tmp_path / "run", "--initial", "chpnet-rt")
    with pytest.raises(SystemExit) as stop:
        main([*map(str, given)])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert f"expected a checkpoint (.ckpt) of a {words[-1]}, found another file" in error
    assert not (tmp_path / "run").exists()
