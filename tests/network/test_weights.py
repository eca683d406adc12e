import json

import pytest
import torch

from chpnet_stream.errors import ModelError
from chpnet_stream.network import weights
from chpnet_stream.network.weights import check_file, find_model, installed_models, load_student
from tests.network.models import ARCHITECTURES, TASKS, tiny_config, untrained, write_model


@pytest.fixture
def card(tmp_path):
    return write_model(tmp_path, untrained(tiny_config()))


def edit(card, **changes):
    content = json.loads(card.read_text()) | changes
    card.write_text(json.dumps(content))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("task", TASKS)
def test_weights_come_back(tmp_path, architecture, task):
    student = untrained(tiny_config(architecture, task))
    model = find_model(write_model(tmp_path, student))
    model.verify()
    assert len(model.card.checksum) == 12
    found = load_student(model)
    assert not found.training
    assert found.config == student.config
    for (name, value), expected in zip(
        found.state_dict().items(), student.state_dict().values(), strict=True
    ):
        assert torch.equal(value, expected.half().float()), name
        assert value.dtype == torch.float32
    assert not any(p.requires_grad for p in found.parameters())


def test_damaged_weights_are_refused(card):
    path = card.with_suffix(".safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for check in (lambda m: m.verify(), load_student):
        with pytest.raises(ModelError, match=r"expected SHA-256 \w{12}\.\.\., found \w{12}"):
            check(find_model(card))


def test_missing_weights_are_named(card):
    card.with_suffix(".safetensors").unlink()
    with pytest.raises(ModelError, match=r"tiny\.safetensors, found: No such file"):
        load_student(find_model(card))


def test_unknown_name_suggests_the_near_one(monkeypatch, card):
    monkeypatch.setattr(weights, "MODELS", card.parent)
    assert installed_models() == ["tiny"]
    assert find_model("tiny").card.name == "tiny"
    with pytest.raises(ModelError, match="found 'tinny'; did you mean 'tiny'"):
        find_model("tinny")
    with pytest.raises(ModelError, match="found 'other'; installed: tiny"):
        find_model("other")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"name": "tiny", "format": 2}', "\x00\xff"]
)
def test_damaged_card_is_refused(card, content):
    card.write_text(content, encoding="latin-1")
    with pytest.raises(ModelError, match=r"tiny\.json: expected a model card of format 1"):
        find_model(card)


def test_missing_card_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"none\.json: No such file"):
        find_model(tmp_path / "none.json")


def test_card_of_another_name_is_refused(card):
    other = card.with_name("other.json")
    card.rename(other)
    with pytest.raises(ModelError, match="found the card of 'tiny'"):
        find_model(other)


def test_unknown_entries_of_a_card_are_refused(card):
    edit(card, colour="red")
    with pytest.raises(ModelError, match="model card of format 1"):
        find_model(card)


@pytest.mark.parametrize(
    ("student", "quoted"),
    [
        ({"architecture": "chpnet"}, "weights of chpnet"),
        ({"widths": (4, 16)}, "size mismatch"),
    ],
)
def test_weights_of_another_architecture_are_refused(card, student, quoted):
    content = json.loads(card.read_text())
    edit(card, student=content["student"] | student)
    with pytest.raises(ModelError, match=quoted):
        load_student(find_model(card))


@pytest.mark.parametrize(
    "student",
    [
        {"widths": [10**6, 10**6]},
        {"widths": [-4, 8]},
        {"widths": 20 * [8]},
        {"iterations": 10**6},
        {"blocks": 10**6},
        {"unshuffle": 10**3},
        {"cg_steps": 10**9},
    ],
    ids=str,
)
def test_networks_that_no_machine_holds_are_refused(card, student):
    """Before anything is built of them."""
    content = json.loads(card.read_text())
    edit(card, student=content["student"] | student)
    with pytest.raises(ModelError, match="expected a model card of format 1"):
        find_model(card)


def test_a_start_that_takes_all_day_is_refused(card):
    edit(card, start_iterations=10**9)
    with pytest.raises(ModelError, match="expected a model card of format 1"):
        find_model(card)


def test_what_is_no_safetensors_file_is_refused(card):
    import hashlib

    path = card.with_suffix(".safetensors")
    path.write_bytes(b"not weights at all")
    edit(card, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ModelError, match="expected safetensors"):
        load_student(find_model(card))


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ModelError, match="Is a directory"):
        check_file(tmp_path, "0" * 64)


@pytest.mark.parametrize("name", installed_models())
def test_installed_models_are_whole(name):
    model = find_model(name)
    model.verify()
    student = load_student(model)
    assert sum(p.numel() for p in student.parameters()) == model.card.parameters
    assert len(model.card.onnx_sha256) == len(student.denoisers)
