"""Any network of a checkpoint as an engine, so that it is scored as a model would be."""

from __future__ import annotations

from pathlib import Path

import torch

from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.errors import ConfigurationError
from chpnet_stream.network.card import ModelCard
from chpnet_training.dataset import START_ITERATIONS, START_REGULARIZATION
from chpnet_training.runs import NETWORKS, evaluated_network


class CheckpointEngine(PyTorchEngine):
    """Runs the averaged weights of a student, a teacher or a U-Net.

    Args:
        checkpoint: File of a training run.
        network: "student", "teacher" or "unet".
    """

    def __init__(self, checkpoint: Path, network: str) -> None:
        self.network, recipe = evaluated_network(checkpoint, network)
        if recipe.student.task != "kspace":
            raise ConfigurationError(
                f"{checkpoint}: expected a network for 'kspace', found one for "
                f"'{recipe.student.task}'; it cannot be scored on raw data"
            )
        self.name = f"pytorch-{network}"
        self.device = torch.device("cpu")
        self.card = ModelCard(
            name=f"{checkpoint.parent.name}/{network}",
            student=recipe.student,
            weights_sha256="",
            onnx_sha256=(),
            parameters=sum(p.numel() for p in self.network.parameters()),
            gmac_320=0.0,
            start_iterations=START_ITERATIONS,
            start_regularization=START_REGULARIZATION,
            data=(),
            recipe={},
            steps=0,
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
        ConfigurationError: If a text has not that form.
    """
    engines = {}
    for text in texts:
        label, equals, rest = text.partition("=")
        file, _, network = rest.partition(".ckpt:")
        if not (label and equals and rest):
            raise ConfigurationError(
                f"--network {text}: expected LABEL=CHECKPOINT or LABEL=CHECKPOINT:NETWORK"
            )
        if network:
            file += ".ckpt"
        else:
            network = label if label in NETWORKS else "student"
        engines[label] = CheckpointEngine(Path(file), network)
    return engines
