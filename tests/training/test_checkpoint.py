from pathlib import Path

import pytest
import torch
from torch import nn

from chpnet_stream.errors import OutputError
from chpnet_training.checkpoint import (
    CheckpointError,
    load_network,
    read_checkpoint,
    stored_recipe,
    write_checkpoint,
)
from chpnet_training.optimization import TrainingError
from tests.training.tiny import tiny_recipe


def state_of(network: nn.Module) -> dict:
    return {"networks": {"student": network.state_dict()}, "step": 3}


def test_what_is_written_is_read(tmp_path):
    network, other = nn.Linear(2, 3), nn.Linear(2, 3)
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, state_of(network))
    assert read_checkpoint(path)["step"] == 3
    load_network(other, "student", path)
    assert torch.equal(network.weight, other.weight)
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, state_of(nn.Linear(2, 3)))
    before = path.read_bytes()
    (tmp_path / ".last.ckpt.part").mkdir()  # nothing can be written there
    with pytest.raises(OutputError, match=r"can't write .*last\.ckpt"):
        write_checkpoint(path, state_of(nn.Linear(2, 3)))
    assert path.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to write to")
def test_a_full_disk_is_told(tmp_path):
    (tmp_path / ".last.ckpt.part").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left") as caught:
        write_checkpoint(tmp_path / "last.ckpt", state_of(nn.Linear(200, 300)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "found no such file"),
        (b"", "found a damaged file"),
        (b"PK\x03\x04 no archive", "found a damaged file"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content, says):
    path = tmp_path / "x.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=says):
        read_checkpoint(path)


def test_a_changed_bit_is_refused_or_changes_nothing(tmp_path):
    """At every third byte and in all of the directory at the end, of which a bit counts, too."""
    path = tmp_path / "last.ckpt"
    network = nn.Linear(5, 4)
    write_checkpoint(path, state_of(network))
    whole = path.read_bytes()
    at = whole.index(network.weight.detach().numpy().tobytes())
    refused = []
    directory = range(whole.index(b"PK\x01\x02"), len(whole))
    anywhere = [(n, n % 8) for n in (*range(0, len(whole), 3), *range(at, at + 4 * 5 * 4))]
    for position, bit in (*anywhere, *((n, 4) for n in directory)):
        changed = bytearray(whole)
        changed[position] ^= 1 << bit
        path.write_bytes(changed)
        try:
            state = read_checkpoint(path)
        except CheckpointError:
            refused.append(position)
            continue
        assert state["step"] == 3
        weights = state["networks"]["student"]
        assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())
    assert set(range(at, at + 4 * 5 * 4)) <= set(refused)


def test_the_message_of_a_damaged_file_says_where_and_what_to_do(tmp_path):
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, state_of(nn.Linear(5, 4)))
    content = bytearray(path.read_bytes())
    content[content.index(b"networks")] ^= 1
    path.write_bytes(content)
    said = r"data\.pkl does not fit its checksum\); take a copy.* best\.ckpt"
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(path)


def test_a_recipe_that_is_not_known_any_more_is_told(tmp_path):
    path, recipe = tmp_path / "last.ckpt", tiny_recipe().model_dump(mode="json")
    assert stored_recipe({"recipe": recipe}, path) == tiny_recipe()
    recipe["optimizer"]["momentum"] = 0.9
    with pytest.raises(
        CheckpointError, match=r"last\.ckpt: .*found 'optimizer\.momentum': .*train"
    ):
        stored_recipe({"recipe": recipe}, path)
    with pytest.raises(CheckpointError, match="of this version of chpnet-train, found none"):
        stored_recipe({}, path)


def test_other_files_of_torch_and_code_are_refused(tmp_path):
    torch.save({"weights": torch.ones(2)}, tmp_path / "a.ckpt")
    with pytest.raises(TrainingError, match="of chpnet-train, found another file"):
        read_checkpoint(tmp_path / "a.ckpt")
    torch.save({"networks": nn.Linear(1, 1)}, tmp_path / "b.ckpt")  # a pickled class
    with pytest.raises(TrainingError, match="found a damaged file"):
        read_checkpoint(tmp_path / "b.ckpt")


def test_weights_must_be_of_that_network(tmp_path):
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, state_of(nn.Linear(2, 3)))
    with pytest.raises(TrainingError, match="expected a network 'teacher', found student"):
        load_network(nn.Linear(2, 3), "teacher", path)
    with pytest.raises(TrainingError, match=r"those of another architecture .*weight"):
        load_network(nn.Linear(2, 4), "student", path)
