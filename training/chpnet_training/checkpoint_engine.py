"""Any network of a checkpoint as an engine, so that it is scored as a model would be."""

from __future__ import annotations

from pathlib import Path

import torch

from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.errors import ConfigurationError
from chpnet_stream.network.card import ModelCard
from chpnet_training.checkpoint import read_checkpoint
from chpnet_training.dataset import START_ITERATIONS, START_REGULARIZATION
from chpnet_training.evaluation import OWN_METHODS
from chpnet_training.macs import count_macs
from chpnet_training.runs import NETWORKS, network_of

SIDE = 320
"""Rows and columns of the slice that arithmetic is counted for, as in model cards."""


class CheckpointEngine(PyTorchEngine):
    """Runs the averaged weights of a student, a teacher or a U-Net.

    Args:
        checkpoint: File of a training run.
        network: "student", "teacher" or "unet".
    """

    def __init__(self, checkpoint: Path, network: str) -> None:
        state = read_checkpoint(checkpoint)
        made, recipe = network_of(state, checkpoint, network)
        if recipe.student.task != "kspace":
            raise ConfigurationError(
                f"{checkpoint}: expected a network for 'kspace', found one for "
                f"'{recipe.student.task}'; it cannot be scored on raw data"
            )
        self.network = made
        self.name = f"pytorch-{network}"
        self.device = torch.device("cpu")
        self.card = ModelCard(
            name=f"{checkpoint.parent.name}/{network}",
            student=recipe.student,
            weights_sha256="",
            onnx_sha256=(),
            parameters=sum(p.numel() for p in made.parameters()),
            gmac_320=count_macs(made, SIDE, SIDE) / 1e9,
            start_iterations=START_ITERATIONS,
            start_regularization=START_REGULARIZATION,
            data=(),
            recipe={},
            steps=int(state.get("step", 0)),
            seed=recipe.seed,
            metrics={},
            licence="",
            limits=(),
            training="",
        )


def parse_networks(texts: tuple[str, ...]) -> dict[str, CheckpointEngine]:
    """Engines by label, from ``teacher=RUN/last.ckpt`` or ``small=RUN/last.ckpt:student``.

    Without a network's name after the colon, the label says which it is, else the student.

    Raises:
        ConfigurationError: If a text has not that form, or its label is that of another row: their
            scores would be averaged.
    """
    files: dict[str, tuple[Path, str]] = {}
    for text in texts:
        label, equals, rest = text.partition("=")
        file, _, network = rest.partition(".ckpt:")
        if not (label and equals and rest):
            raise ConfigurationError(
                f"--network {text}: expected LABEL=CHECKPOINT or LABEL=CHECKPOINT:NETWORK"
            )
        if label in files or label in OWN_METHODS or label.startswith("bart "):
            raise ConfigurationError(
                f"--network {text}: expected a label of its own, found '{label}' twice; the model "
                f"is '{OWN_METHODS[-1]}', call this one otherwise"
            )
        if network:
            file += ".ckpt"
        else:
            network = label if label in NETWORKS else "student"
        files[label] = Path(file), network
    return {label: CheckpointEngine(*where) for label, where in files.items()}


def facts_of(card: ModelCard) -> dict[str, object]:
    """What a table of scores tells of a network: name, size, arithmetic, training."""
    return {
        "name": card.name,
        "parameters": card.parameters,
        "gmac_320": card.gmac_320,
        "steps": card.steps,
        "seed": card.seed,
    }
