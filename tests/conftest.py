"""What every test can ask for.

Helper functions are in `tests/helpers.py`: `from tests.helpers import ...`. Tests that need data
or programs from outside the repository ask for `shared_data`, `bart` or `ismrmrd_tools` and are
skipped, with the reason, where these are absent.
"""

import functools
import logging
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from chpnet_stream.cli.errors import traceback_logger
from chpnet_stream.simulation.scan import simulate_scan
from tests.helpers import small_options

# The tests share the machine with whatever else runs there; results must not depend on the number.
torch.set_num_threads(int(os.environ.get("CHPNET_TEST_THREADS", "1")))

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Every test starts from the same random state."""
    random.seed(0)
    np.random.seed(0)  # third-party code may draw from the global generator
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands set up logging for a process of their own: put it back for the other tests."""
    loggers = [logging.getLogger(name) for name in ("chpnet_stream", "chpnet_training")]
    loggers.append(traceback_logger)
    before = [(list(log.handlers), log.level, log.propagate) for log in loggers]
    yield
    for log, (handlers, level, propagate) in zip(loggers, before, strict=True):
        for handler in log.handlers:
            if handler not in handlers:
                handler.close()
        log.handlers, log.propagate = handlers, propagate
        log.setLevel(level)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real and third-party scans: $CHPNET_SHARED_DATA, or ../shared/data."""
    default = CHECKOUT.parent / "shared" / "data"
    folder = Path(os.environ.get("CHPNET_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no data folder {folder} (set CHPNET_SHARED_DATA to where it is)")
    return folder


def _program(name: str, package: str) -> Path:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no program {name} (Debian: apt-get install {package})")
    return Path(found)


@pytest.fixture(scope="session")
def bart() -> Path:
    """The BART command line program."""
    return _program("bart", "bart")


@pytest.fixture(scope="session")
def ismrmrd_tools() -> Path:
    """Folder of ismrmrd_generate_cartesian_shepp_logan and ismrmrd_recon_cartesian_2d."""
    _program("ismrmrd_generate_cartesian_shepp_logan", "ismrmrd-tools")
    return _program("ismrmrd_recon_cartesian_2d", "ismrmrd-tools").parent


@pytest.fixture(scope="session")
def small_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated scan: 2 slices of 64 x 64, 4 coils, R = 2, 16 embedded calibration lines.

    With a noise scan and the truth inside. Read it, or work on a copy: the file is shared.
    """
    path = tmp_path_factory.mktemp("small-scan") / "scan.h5"
    simulate_scan(path, small_options())
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes an exported model with random weights: `tiny_model("chpnet-rt", "kspace")`.

    Gives the path of the card; weights and ONNX graphs lie beside it. Each is exported once
    (about ten seconds) and shared: damage copies only.
    """
    from chpnet_training.export import export_model
    from tests.network.models import tiny_config, write_checkpoint

    @functools.cache
    def make(architecture: str = "chpnet-rt", task: str = "kspace") -> Path:
        folder = tmp_path_factory.mktemp("tiny-model")
        config = tiny_config(architecture, task)
        return export_model(
            write_checkpoint(folder / "last.ckpt", config),
            folder,
            data=(),
            metrics={},
            limits=("not trained",),
            training="not trained: random weights",
        )

    return make
