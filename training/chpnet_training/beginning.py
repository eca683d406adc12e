"""What a run begins with: the option for it, and the note of it in the run's checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chpnet_stream.errors import ConfigurationError

if TYPE_CHECKING:
    from chpnet_training.trainer import Trainer

F = TypeVar("F", bound=Callable[..., Any])


def initial_option(what: str, metavar: str = "CHECKPOINT") -> Callable[[F], F]:
    """--initial.

    Args:
        what: What a run may begin with, for the help.
        metavar: What is given.
    """
    return click.option(
        "--initial",
        type=click.Path(path_type=Path),
        metavar=metavar,
        help=f"Begin with {what}, instead of random weights.",
    )


def check_initial(initial: Path | None, network: str) -> None:
    """Refuse a model where it can't hold the network.

    Raises:
        ConfigurationError: As said.
    """
    if initial is not None and network != "student" and initial.suffix != ".ckpt":
        raise ConfigurationError(
            f"--initial {initial}: expected a checkpoint (.ckpt) of a {network}, found another "
            "file; models hold students only"
        )


def note_origin(
    trainer: Trainer, bank: Path, *, initial: Path | None = None, teacher: Path | None = None
) -> None:
    """Note in a new run what it is made from; one that goes on has its note already.

    Args:
        trainer: The run.
        bank: File of training images.
        initial: What it begins with.
        teacher: Checkpoint of its teacher.
    """
    from chpnet_training.provenance import origin_of_run

    if trainer.step == 0:
        origin = origin_of_run(trainer.recipe, bank, initial=initial, teacher=teacher)
        trainer.about = origin.model_dump(mode="json")
