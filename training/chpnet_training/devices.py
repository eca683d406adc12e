"""Where to train: Lightning's Fabric for this machine, or for the world that torchrun made."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.precision import MixedPrecision
from lightning.fabric.strategies import DDPStrategy
from lightning.fabric.utilities.exceptions import MisconfigurationException

from chpnet_stream.errors import ConfigurationError

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
PATIENCE = 600.0
"""Seconds that a process waits for the others."""


class MixedArithmetic(MixedPrecision):
    """Lightning's mixed precision whose inputs stay as they are.

    `MixedPrecision` would round the images, the measured data and the noise to 8 or 11 bits before
    the network sees them, and complex arithmetic does not exist in such types. Under autocast the
    convolutions and matrix products round what they need; images between the iterations, data
    consistency and losses stay float32.
    """

    def convert_input(self, data: Any) -> Any:
        """What came in."""
        return data


def choose_accelerator(accelerator: str, precision: str = PRECISIONS[0]) -> str:
    """Where to train: "cpu" or "cuda"; "auto" is CUDA where there is a GPU.

    Raises:
        ConfigurationError: If it is not there, or can't do the precision.
    """
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    _refuse(accelerator, precision)
    return accelerator


def make_fabric(
    *,
    accelerator: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    precision: str = "32-true",
    unused: bool = False,
    patience: float = PATIENCE,
) -> Fabric:
    """Lightning's Fabric for these devices, not launched yet (`chpnet_training.processes.launch`).

    Args:
        accelerator: "cpu", "cuda" or "auto" (CUDA where there is a GPU).
        devices: Devices (processes) on this machine; under torchrun those that it started.
        nodes: Machines; under torchrun those that it knows.
        precision: One of `PRECISIONS`: arithmetic of the networks.
        unused: Whether a step may leave parameters out (a teacher with closed blocks).
        patience: Seconds that a process waits for the others before it ends with an error.

    Raises:
        ConfigurationError: If the devices are not there, or can't do it.
    """
    accelerator = choose_accelerator(accelerator, precision)
    devices, nodes = _world(devices, nodes)
    parallel = devices * nodes > 1
    mixed = precision != "32-true"
    together = DDPStrategy(timeout=timedelta(seconds=patience), find_unused_parameters=unused)
    try:
        return Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=together if parallel else "auto",
            plugins=[MixedArithmetic(precision, accelerator)] if mixed else None,  # type: ignore[arg-type]
        )
    except (MisconfigurationException, ValueError) as error:
        raise ConfigurationError(
            f"--accelerator {accelerator} --devices {devices}: found that it can't be had "
            f"({' '.join(str(error).split())})"
        ) from error


def _refuse(accelerator: str, precision: str) -> None:
    if precision not in PRECISIONS:
        raise ConfigurationError(
            f"expected a precision of {', '.join(PRECISIONS)}, found '{precision}'"
        )
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(
            "--accelerator cuda: expected a GPU that PyTorch can use, found none; take cpu"
        )
    if accelerator == "cpu" and precision == "16-mixed":
        raise ConfigurationError(
            "--precision 16-mixed: expected a GPU, found a CPU, on which half precision is slow "
            "and untested; take bf16-mixed or 32-true"
        )


def _world(devices: int, nodes: int) -> tuple[int, int]:
    """Devices of a machine, and machines: as torchrun started them, else as asked."""
    if not torch.distributed.is_torchelastic_launched():
        return devices, nodes
    here, machines = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["GROUP_WORLD_SIZE"])
    if devices not in (1, here) or nodes not in (1, machines):
        raise ConfigurationError(
            f"--devices {devices} --nodes {nodes}: expected what torchrun started, {here} "
            f"processes on {machines} machines; leave these options out under torchrun"
        )
    return here, machines
