"""What the numbers were measured on: no host name, no paths."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from chpnet_stream import __version__
from chpnet_stream.engines.processor import cores, described

PACKAGES = (
    *("torch", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx-cu13"),
    *("numpy", "ismrmrd", "gadgetron"),
)


def machine() -> dict[str, Any]:
    """Processor, cores, GPU, load and versions."""
    import torch

    versions = {"python": platform.python_version(), "chpnet-stream": __version__}
    versions |= package_versions()
    on_gpu = torch.cuda.is_available()
    others = {"bart": bart_version(), "cuda": torch.version.cuda if on_gpu else None}
    versions |= {name: number for name, number in others.items() if number}
    return {
        "processor": described(),
        "cores": cores(),
        "gpu": torch.cuda.get_device_name() if on_gpu else None,
        "load": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "versions": versions,
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


def bart_version() -> str | None:
    """Version of the program `bart`; None where there is none, or it doesn't say."""
    program = shutil.which("bart")
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            [program, "version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return (done.stdout.strip() or done.stderr.strip()).removeprefix("v") or None
