"""What the tests of training can ask for."""

from pathlib import Path

import pytest

from chpnet_stream.simulation.scan import simulate_scan
from chpnet_training.readers.mrd import read_mrd
from tests.helpers import small_options
from tests.training.tiny import tiny_bank
from tests.training.tiny_study import tiny_study, train_here


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Bank and folder of `tiny_study(unet=True)`, trained. Read them, or work on a copy."""
    place = tmp_path_factory.mktemp("study")
    bank = tiny_bank(place / "bank.h5")
    train_here(tiny_study(unet=True), bank, place / "out")
    return bank, place / "out"


@pytest.fixture(scope="session")
def raw_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_bank`, with the k-space of a simulated scan beside the first and the last image."""
    place = tmp_path_factory.mktemp("raw")
    simulate_scan(place / "scan.h5", small_options(acceleration=1, snr=30.0))
    kspace = next(read_mrd(place / "scan.h5")).kspace
    assert kspace is not None
    return tiny_bank(place / "bank.h5", kspace={0: kspace, 3: kspace})
