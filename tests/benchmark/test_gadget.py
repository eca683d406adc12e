"""What the gadget that is measured tells of its process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CODE = "from chpnet_stream.benchmark.gadget import peak_mb; print(peak_mb())"


def peak_of_a_child() -> float:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_the_peak_is_not_that_of_the_process_that_started_it() -> None:
    before = peak_of_a_child()
    held = np.ones(2**26)  # 512 MB
    assert peak_of_a_child() < before + 100
    del held


def test_the_peak_counts_what_was_given_back() -> None:
    code = CODE.replace(";", "; b = bytearray(b'x') * 2**28; del b;")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 256
