"""The machine that numbers were measured on, in a sentence."""

from __future__ import annotations

import platform
from importlib.metadata import version

from chpnet_stream.engines.processor import cores, processor


def describe_machine() -> str:
    """Processor, cores or GPU, and versions. No host name, no paths."""
    import torch

    where = f"{processor()}, {cores()} cores"
    if torch.cuda.is_available():
        where += f", {torch.cuda.get_device_name()}"
    return (
        f"Measured on {where}; Python {platform.python_version()}, torch {version('torch')}, "
        f"lightning {version('lightning')}."
    )
