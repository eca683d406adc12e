"""What `chpnet-train export` puts on a card, and what it refuses."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from chpnet_stream.network.weights import find_model, load_student
from chpnet_training.bank import SourceBank
from chpnet_training.cli import main
from chpnet_training.cmd_export import MEASURED
from chpnet_training.provenance import origin_of_run
from chpnet_training.recipe import Recipe
from chpnet_training.runs import validation_batches
from chpnet_training.validation import validate
from tests.network.models import untrained
from tests.training.tiny import tiny_bank, tiny_recipe


def checkpoint_of(path: Path, recipe: Recipe, **more: object) -> Path:
    """What a run leaves, of an untrained student."""
    state = {"recipe": recipe.model_dump(mode="json"), "step": 7}
    state["networks"] = {"student": untrained(recipe.student).state_dict()}
    torch.save(state | more, path)
    return path


def export(checkpoint: Path, bank: Path, out: Path, *words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["export", *map(str, (checkpoint, "--data", bank, "--out", out, *words))])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return tiny_bank(tmp_path_factory.mktemp("bank") / "data.h5")


def test_scores_are_those_of_the_model_that_is_written(bank, tmp_path, capsys):
    """With its CG steps, noise factor and rounded weights, not those of the training."""
    recipe = tiny_recipe()
    wrong = dict.fromkeys(("psnr", "ssim", "nmse", "start_psnr", "start_ssim", "start_nmse"), 99.0)
    checkpoint = checkpoint_of(tmp_path / "last.ckpt", recipe, scores=wrong)
    words = ("--cg-steps", 9, "--noise-factor", 0.5, "--licence", "CC BY-NC 4.0", "--json")
    assert export(checkpoint, bank, tmp_path / "model", *words) == 0
    told = capsys.readouterr()
    assert "does not say what it was trained on" in told.err
    card = json.loads(told.out)["card"]
    model = find_model(card)
    student = load_student(model)
    assert student.config.cg_steps == 9
    assert model.card.licence == "CC BY-NC 4.0"
    batches = validation_batches(recipe, bank)
    for batch in batches:
        batch.noise *= 0.5
    expected = validate(student, batches)
    found = model.card.metrics["simulated scans, held-out images"]
    assert found["psnr_db"] == pytest.approx(expected["psnr"], abs=1e-3)
    assert found["ssim"] == pytest.approx(expected["ssim"], abs=1e-5)
    other = validate(load_student(model), validation_batches(recipe, bank))["psnr"]
    assert abs(found["psnr_db"] - other) > 1e-2  # the noise factor counts
    parity = model.card.metrics["onnx-cpu against float64, simulated slices"]
    assert parity["images"] == 5
    assert parity["output_db"] > 90
    assert abs(parity["loss_db"]) < 0.005
    assert [(source.name, source.images) for source in model.card.data] == [("phantom", 3)]
    assert model.card.training == (
        "supervised on simulated scans, without a teacher; what it began with is not recorded"
    )


def test_other_data_than_those_of_the_training_are_refused(bank, tmp_path, capsys):
    known = {"data": asdict(SourceBank.load(bank).identity)}
    checkpoint = checkpoint_of(tmp_path / "last.ckpt", tiny_recipe(), given=known)
    other = tiny_bank(tmp_path / "other.h5", ("train", "train", "val", "train"))
    assert export(checkpoint, other, tmp_path / "model") == 2
    error = capsys.readouterr().err
    assert f"expected the data that it was trained on, {SourceBank.load(bank).identity}" in error
    assert f"found --data {SourceBank.load(other).identity}" in error
    assert "does not say" not in error
    assert not (tmp_path / "model").exists()


def test_measured_kspace_and_missing_validation_images_are_told(raw_bank, tmp_path):
    recipe = tiny_recipe()
    checkpoint = checkpoint_of(tmp_path / "last.ckpt", recipe)
    assert export(checkpoint, raw_bank, tmp_path / "one") == 0
    card = find_model(tmp_path / "one" / "tiny.json").card
    assert MEASURED in card.metrics
    assert (
        "Trained on 1 slices of measured k-space, undersampled, whose targets have the noise of "
        "the full scan, and on 2 magnitude images with simulated coils, phase and noise."
    ) in card.limits
    assert not any("Trained on magnitude images" in limit for limit in card.limits)
    assert card.training.startswith("supervised on measured k-space and simulated scans,")
    whole = tiny_bank(tmp_path / "whole.h5", 4 * ("train",))
    origin = origin_of_run(recipe, whole).model_dump(mode="json")
    checkpoint_of(checkpoint, recipe, about=origin)
    assert export(checkpoint, whole, tmp_path / "two") == 0
    card = find_model(tmp_path / "two" / "tiny.json").card
    assert list(card.metrics) == ["onnx-cpu against float64, simulated slices"]
    assert card.training == "supervised on simulated scans, without a teacher"


def test_graphs_that_give_other_images_are_refused(bank, tmp_path, capsys, monkeypatch):
    from chpnet_training import export as exporting

    write = exporting.export_denoiser

    def spoil(denoiser, path):
        with torch.no_grad():
            denoiser.tail.weight *= 1.01
        write(denoiser, path)

    monkeypatch.setattr(exporting, "export_denoiser", spoil)
    out = tmp_path / "model"
    assert export(checkpoint_of(tmp_path / "last.ckpt", tiny_recipe()), bank, out) == 2
    error = capsys.readouterr().err
    assert "from the float64 reference, expected at least 90 dB; nothing was written" in error
    assert not out.exists()


def test_a_name_must_be_one_for_files(bank, tmp_path, capsys):
    checkpoint = checkpoint_of(tmp_path / "last.ckpt", tiny_recipe())
    assert export(checkpoint, bank, tmp_path / "model", "--name", "a/b") == 2
    assert "expected a name for files" in capsys.readouterr().err


def test_recipes_of_another_version_are_told(bank, tmp_path, capsys):
    checkpoint = checkpoint_of(tmp_path / "last.ckpt", tiny_recipe())
    state = torch.load(checkpoint, weights_only=True)
    state["recipe"]["loss"]["gone"] = 1
    torch.save(state, checkpoint)
    assert export(checkpoint, bank, tmp_path / "model") == 2
    error = capsys.readouterr().err
    assert "loss.gone" in error
    assert error.count("\n") == 1
