"""One scan, and its images by `offline`, for the commands that must give the same."""

from pathlib import Path
from typing import Any

import pytest

from tests.programs import chpnet, images_in
from tests.sessions import simulated


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two repetitions of three slices, with waveforms."""
    folder = tmp_path_factory.mktemp("doors")
    return simulated(folder, slices=3, repetitions=2, waveforms=True, matrix=(32, 32), coils=3)


@pytest.fixture(scope="session")
def wanted(scan: Path) -> list[Any]:
    """The images by `offline`, the network's."""
    out = scan.with_name("offline.h5")
    done = chpnet("offline", scan, "-o", out, "--threads", 1)
    assert done.returncode == 0, done.stderr
    return images_in(out)
