"""The machine that numbers were measured on, in a sentence."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

from chpnet_stream.engines.processor import cores, described, processor

if TYPE_CHECKING:
    import torch


NOT_RECORDED = "not recorded"
"""Stands for the hardware of checkpoints that were made before they told it."""


def describe_machine() -> str:
    """Processor, cores or GPU, and versions. No host name, no paths."""
    import torch

    where = f"{described()}, {cores()} cores"
    if torch.cuda.is_available():
        where += f", {torch.cuda.get_device_name()}"
    return (
        f"Measured on {where}; Python {platform.python_version()}, torch {version('torch')}, "
        f"lightning {version('lightning')}."
    )


def describe_device(device: torch.device) -> str:
    """Name of a GPU, or of the processor. No host name, no paths."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
