"""What the numbers were measured on: no host name, no paths."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from chpnet_stream import __version__
from chpnet_stream.engines.processor import cores, processor

PACKAGES = (
    *("torch", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx-cu13"),
    *("numpy", "ismrmrd", "gadgetron"),
)


def machine() -> dict[str, Any]:
    """Processor, cores, GPU, load and versions."""
    import torch

    versions = {"python": platform.python_version(), "chpnet-stream": __version__}
    return {
        "processor": processor(),
        "cores": cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "versions": versions | package_versions(),
    }


def package_versions() -> dict[str, str]:
    """Versions of the packages that speed depends on, as far as they are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
