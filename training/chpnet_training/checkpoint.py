"""Checkpoints: written whole or not at all, read without pickle."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from chpnet_stream.errors import InputError, OutputError
from chpnet_stream.whole_file import whole_file
from chpnet_training.optimization import TrainingError


class CheckpointError(TrainingError, InputError):
    """A file is no checkpoint, or not the one that is wanted."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write on the disk: neither a killed process nor a power cut leaves half a file.

    Raises:
        OutputError: If it can't be written.
    """
    try:
        with whole_file(path, sync=True, sole_writer=True) as part, part.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:  # so torch's writer says that the disk is full
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OutputError(f"can't write {path}: {first}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read tensors and plain values, nothing else.

    Raises:
        CheckpointError: If there is no such file, or it is damaged or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: expected a checkpoint, found no such file") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint, found a damaged file; remove it to start anew"
        ) from error
    if not isinstance(state, dict) or "networks" not in state:
        raise CheckpointError(f"{path}: expected a checkpoint of chpnet-train, found another file")
    return state


def load_network(network: nn.Module, name: str, path: Path) -> None:
    """Give a network the averaged weights that a checkpoint holds under a name.

    Raises:
        CheckpointError: If there are none, or they are those of another architecture.
    """
    give_weights(network, name, read_checkpoint(path), path)


def give_weights(network: nn.Module, name: str, state: dict[str, Any], path: Path) -> None:
    """As `load_network`, from a checkpoint that has been read.

    Args:
        network: What gets the weights.
        name: Their name in the checkpoint.
        state: What `read_checkpoint` gave.
        path: Where from, for messages.

    Raises:
        CheckpointError: As in `load_network`.
    """
    networks = state["networks"]
    if name not in networks:
        raise CheckpointError(
            f"{path}: expected a network '{name}', found {', '.join(networks) or 'none'}"
        )
    try:
        network.load_state_dict(networks[name])
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(
            f"{path}: expected weights of the recipe's {name}, found those of another architecture "
            f"({first}); give the recipe that they were trained with"
        ) from error
