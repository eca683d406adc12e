import hashlib
import json
from pathlib import Path

import pytest
from safetensors.torch import save

from chpnet_stream.cli.main import main
from chpnet_stream.network.card import ModelCard, TrainingData
from chpnet_stream.network.chpnet import build_student
from chpnet_stream.network.config import StudentConfig


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["models", *words])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def make_model(folder: Path, name: str) -> Path:
    """A model with random weights; its graph is never run here."""
    config = StudentConfig(widths=(4, 8), iterations=1)
    student = build_student(config)
    weights = save({key: value.half() for key, value in student.state_dict().items()})
    (folder / f"{name}.safetensors").write_bytes(weights)
    (folder / f"{name}.0.onnx").write_bytes(b"graph")
    card = ModelCard(
        name=name,
        student=config,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        onnx_sha256=(hashlib.sha256(b"graph").hexdigest(),),
        parameters=sum(p.numel() for p in student.parameters()),
        gmac_320=1.25,
        start_iterations=6,
        start_regularization=0.01,
        data=(TrainingData(name="heads", licence="CC0", images=321),),
        recipe={"name": name, "optimizer": {"steps": 10}},
        steps=10,
        seed=3,
        metrics={"phantom, R = 4": {"psnr_db": 35.25, "ssim": 0.95}},
        licence="MIT",
        limits=("heads only",),
        training="supervised",
    )
    path = folder / f"{name}.json"
    path.write_text(card.model_dump_json())
    return path


@pytest.fixture
def models(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setattr("chpnet_stream.network.weights.MODELS", folder)
    return folder


def test_none_installed(models, capsys):
    assert run() == 0
    assert "No models are installed" in capsys.readouterr().out
    assert run("--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_list(models, capsys):
    make_model(models, "one")
    make_model(models, "two")
    assert run() == 0
    found = capsys.readouterr().out
    assert "one" in found
    assert "phantom, R = 4: psnr 35.25 dB, ssim 0.95" in found
    assert "present" in found
    assert run("--json", "--verify") == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["name"] for record in records] == ["one", "two"]
    assert records[0]["files"] == "intact"
    assert records[0]["task"] == "kspace"
    on_disk = sum(path.stat().st_size for path in models.glob("one.*") if path.suffix != ".json")
    assert records[0]["size_mb"] == pytest.approx(on_disk / 1e6, abs=1e-3)


def test_damage_is_found_by_verify(models, capsys):
    make_model(models, "one")
    (models / "one.0.onnx").write_bytes(b"other")
    assert run() == 0
    assert run("--verify") == 2
    found = capsys.readouterr()
    assert "damaged" in found.out
    assert "one.0.onnx" in found.err
    assert found.err.count("\n") == 1
    assert run("one", "--verify") == 2


def test_missing_files_and_broken_cards_are_rows(models, capsys):
    make_model(models, "one")
    (models / "one.safetensors").unlink()
    (models / "two.json").write_text("{}")
    assert run("--json") == 0
    one, two = json.loads(capsys.readouterr().out)
    assert one["files"] == "missing: one.safetensors"
    assert two["files"] == "card unreadable"
    assert run() == 0


def test_whole_card(models, capsys):
    card = make_model(models, "one")
    assert run("one") == 0
    found = capsys.readouterr().out
    assert "heads: 321 images, CC0" in found
    assert "heads only" in found
    assert "optimizer.steps = 10" in found
    assert hashlib.sha256((models / "one.safetensors").read_bytes()).hexdigest() in found
    assert run(str(card), "--json") == 0
    assert json.loads(capsys.readouterr().out)["student"]["widths"] == [4, 8]


def test_unknown_name(models, capsys):
    make_model(models, "chpnet-rt")
    assert run("chpnet-tr") == 2
    assert "did you mean 'chpnet-rt'?" in capsys.readouterr().err
