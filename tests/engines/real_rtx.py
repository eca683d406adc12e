"""The real TensorRT for RTX, which compiles without a GPU."""

import platform
import sys

import pytest

from chpnet_stream.engines.tensorrt_package import TensorRTPackage, load_package


def real_rtx() -> TensorRTPackage:
    """The package; skips only where there is none for the machine, and fails elsewhere."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("tensorrt-rtx-cu13 is for Linux on x86-64 only")
    return load_package("tensorrt-rtx")
