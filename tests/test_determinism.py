"""Same input, same engine, same bytes out; other numbers of threads within a stated tolerance."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.simulation.scan import simulate_scan
from tests.helpers import small_options

THREAD_TOLERANCE = {"fp32": 1e-5, "bf16": 2e-3}
"""Largest difference over the largest pixel: sums are added up in another order."""


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("determinism") / "scan.h5"
    simulate_scan(path, small_options(matrix=(64, 48), slices=2, coils=5, repetitions=2))
    return path


def offline(scan: Path, out: Path, *words: str) -> list[Any]:
    """The images that a process of its own makes."""
    command = [sys.executable, "-m", "chpnet_stream", "offline", str(scan), "-o", str(out), *words]
    subprocess.run(command, check=True, capture_output=True, timeout=280)
    with ismrmrd.Dataset(str(out), "dataset", mode="r") as dataset:
        count = dataset.number_of_images("image_1")
        return [dataset.read_image("image_1", n) for n in range(count)]


def told(image: Any) -> dict[str, Any]:
    """What an image says of itself, but how long it took."""
    return {name: value for name, value in image.meta.items() if name != "ChpnetLatencyMs"}


@pytest.mark.parametrize(
    ("engine", "precision"), [("onnx", "fp32"), ("pytorch", "fp32"), ("pytorch", "bf16")]
)
def test_the_same_scan_gives_the_same_bytes(
    scan: Path, tmp_path: Path, engine: str, precision: str
) -> None:
    words = ("--engine", engine, "--precision", precision, "--threads")
    first, second = (offline(scan, tmp_path / f"{n}.h5", *words, "2") for n in range(2))
    single = offline(scan, tmp_path / "single.h5", *words, "1")
    assert len(first) == len(second) == len(single) == 4
    for one, two, three in zip(first, second, single, strict=True):
        assert one.data.tobytes() == two.data.tobytes()
        heads = [image.getHead() for image in (one, two)]
        for head in heads:
            head.attribute_string_len = 0  # the latency in the meta may have another length
        assert bytes(heads[0]) == bytes(heads[1])
        assert told(one) == told(two)
        assert one.meta["ChpnetMethod"] == "chpnet"
        most = float(np.abs(one.data).max())
        assert np.abs(three.data - one.data).max() <= THREAD_TOLERANCE[precision] * most
