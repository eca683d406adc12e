"""Checkpoints: written whole or not at all, read without pickle."""

from __future__ import annotations

import hashlib
import logging
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from chpnet_stream.errors import InputError, OutputError
from chpnet_stream.whole_file import whole_file
from chpnet_training.identity import Identity
from chpnet_training.optimization import TrainingError
from chpnet_training.recipe import Recipe

CHECKPOINT = "last.ckpt"
BEST = "best.ckpt"

logger = logging.getLogger(__name__)


_DAMAGED = (
    OSError, RuntimeError, EOFError, ValueError, struct.error,
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What `zipfile` and `torch.load` raise of files that are cut off or changed."""


class DamagedFileError(InputError):
    """A file of tensors can't be read; the message says why, without the file's name."""


class CheckpointError(TrainingError, InputError):
    """A file is no checkpoint, or not the one that is wanted."""


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write on the disk: neither a killed process nor a power cut leaves half a file.

    Raises:
        OutputError: If it can't be written.
    """
    save_tensors(path, state, sync=True, sole_writer=True)


def save_tensors(path: Path, content: dict[str, Any], **how: bool) -> None:
    """Write tensors and plain values, whole or not at all.

    Args:
        path: File to make or replace.
        content: What `load_tensors` gives.
        how: Options of `whole_file`.

    Raises:
        OutputError: If it can't be written.
    """
    try:
        with whole_file(path, **how) as part, part.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # so torch's writer says that the disk is full
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OutputError(f"can't write {path}: {first}") from error


def load_tensors(path: Path, **how: Any) -> Any:
    """Read tensors and plain values, nothing else, and compare them with their checksums.

    PyTorch writes a checksum (CRC-32) of each tensor and does not look at it.

    Args:
        path: What `save_tensors` has written.
        how: Options of `torch.load`.

    Raises:
        FileNotFoundError: If there is no such file.
        DamagedFileError: If it is cut off or changed, or another kind of file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # of an entry with the attribute of a folder torch hands out whatever is in memory
            folders = (entry.filename for entry in archive.infolist() if entry.external_attr)
            spoilt = archive.testzip() or next(folders, None)
        if spoilt is None:
            return torch.load(path, weights_only=True, **how)
    except FileNotFoundError:
        raise
    except _DAMAGED as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise DamagedFileError(reason or "no whole archive of tensors") from error
    raise DamagedFileError(f"{spoilt} does not fit its checksum")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read tensors and plain values, nothing else.

    Raises:
        CheckpointError: If there is no such file, or it is damaged or holds something else.
    """
    try:
        state = load_tensors(path, map_location="cpu")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: expected a checkpoint, found no such file") from error
    except DamagedFileError as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint, found a damaged file ({error}); take a copy of it, or "
            f"remove it to start anew, or begin a new run with {BEST}, where that is there, by "
            "--initial"
        ) from error
    if not isinstance(state, dict) or "networks" not in state:
        raise CheckpointError(f"{path}: expected a checkpoint of chpnet-train, found another file")
    return state


def stored_recipe(state: dict[str, Any], path: Path) -> Recipe:
    """The recipe that a checkpoint was trained by.

    Args:
        state: What `read_checkpoint` gave.
        path: Where from, for messages.

    Raises:
        CheckpointError: If it is one that this version does not know.
    """
    try:
        return Recipe.model_validate(state["recipe"])
    except (KeyError, ValidationError) as error:
        found = "none"
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            found = f"'{'.'.join(map(str, first['loc']))}': {first['msg']}"
        raise CheckpointError(
            f"{path}: expected a recipe of this version of chpnet-train, found {found}; take the "
            "version that the checkpoint was made with, or train anew"
        ) from error


def given_to(state: dict[str, Any]) -> dict[str, Identity]:
    """What a run was begun with beside its recipe, by option ("data", "teacher").

    Args:
        state: What `read_checkpoint` gave. Checkpoints of old versions don't say it.
    """
    return {option: Identity(**facts) for option, facts in state.get("given", {}).items()}


def check_given(
    path: Path, state: dict[str, Any], given: Mapping[str, Identity], *, quiet: bool = False
) -> None:
    """Refuse to go on with other data, or other networks, than those a run was begun with.

    Args:
        path: Where the checkpoint is, for messages.
        state: What `read_checkpoint` gave.
        given: What the run is to go on with. What an old checkpoint does not say is taken for the
            same, with a warning.
        quiet: Without the warning.

    Raises:
        CheckpointError: If something is not the same.
    """
    begun = given_to(state)
    for option, now in given.items():
        before = begun.get(option)
        if before is None and option == "initial" and begun_with_nothing(state):
            raise CheckpointError(
                f"{path}: expected a run that was begun with {now}, found one that was begun with "
                "random weights; give the command that began it, or choose another --out folder"
            )
        if before is None:
            if not quiet:
                logger.warning(
                    "%s: does not say which %s it was trained with, as it is of an older version; "
                    "taken for %s",
                    path,
                    option,
                    now,
                )
        elif before.checksum != now.checksum:
            raise CheckpointError(
                f"{path}: expected a run with --{option} {now}, found one that was begun with "
                f"{before}; give the same file again, or choose another --out folder"
            )


def warn_of_unfinished(path: Path, state: dict[str, Any]) -> None:
    """Tell where a teacher is taken from a run that has not reached its end.

    The best weights of a run (`BEST`) are meant to be from before its end.

    Args:
        path: Where the checkpoint is.
        state: What `read_checkpoint` gave.
    """
    recipe = state.get("recipe") or {}
    steps = recipe.get("optimizer", {}).get("steps", 0)
    patience = recipe.get("validation", {}).get("patience", 0)
    ended_early = 0 < patience <= state.get("since_best", 0)
    if state.get("learner") is not None and state["step"] < steps and not ended_early:
        logger.warning(
            "%s: a teacher of %d steps, whose run has %d; it teaches as it is, half trained",
            path,
            state["step"],
            steps,
        )


def begun_with_nothing(state: dict[str, Any]) -> bool:
    """Whether a run is known to have begun with random weights; `chpnet_training.provenance`."""
    about = state.get("about") or {}
    return "initial" in about and about["initial"] is None


def check_precision(path: Path, state: dict[str, Any], precision: str) -> None:
    """Refuse a run of another precision than the one that is asked for.

    Args:
        path: Where the checkpoint is, for messages.
        state: What `read_checkpoint` gave. Checkpoints of old versions don't say theirs.
        precision: Value of --precision.

    Raises:
        CheckpointError: As said.
    """
    before = state.get("arithmetic")
    if before not in (None, precision):
        raise CheckpointError(
            f"{path}: expected a run with --precision {precision}, found one that was begun with "
            f"{before}; give --precision {before} again, or choose another --out folder"
        )


def weights_identity(path: Path, weights: Mapping[str, Tensor]) -> Identity:
    """By what the weights of a network are known again, whatever else is in their checkpoint."""
    total = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(
            tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return Identity("/".join(path.resolve().parts[-2:]), total.hexdigest())


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
