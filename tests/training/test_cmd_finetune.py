"""`chpnet-train finetune` from the shipped model or a checkpoint, and the card of its best."""

import json

import pytest
import torch

from chpnet_stream.network.weights import find_model, load_student
from chpnet_training.cli import main
from tests.training.test_cli import CHECKOUT, QUICK, TINY
from tests.training.tiny import tiny_bank
from tests.training.tiny_runs import state_of

SHIPPED = CHECKOUT / "configs" / "training" / "chpnet-rt.yaml"
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
    model = find_model(found["card"])
    model.verify()
    assert model.card.steps == best["step"]
    scores = model.card.metrics["simulated scans, held-out images"]
    assert scores["psnr_db"] == best["scores"]["psnr"] == best["best"]
