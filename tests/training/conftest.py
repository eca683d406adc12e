"""What the tests of training can ask for."""

from pathlib import Path

import pytest

from tests.training.tiny import tiny_bank
from tests.training.tiny_study import tiny_study, train_here


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Bank and folder of `tiny_study(unet=True)`, trained. Read them, or work on a copy."""
    place = tmp_path_factory.mktemp("study")
    bank = tiny_bank(place / "bank.h5")
    train_here(tiny_study(unet=True), bank, place / "out")
    return bank, place / "out"
