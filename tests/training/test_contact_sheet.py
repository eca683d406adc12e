import numpy as np
import pytest
from PIL import Image

from chpnet_stream.errors import OutputError
from chpnet_training.bank import SourceBank
from chpnet_training.contact_sheet import (
    CAPTION,
    COLUMNS,
    TILE,
    choose,
    save_contact_sheet,
)
from tests.training.tiny import tiny_bank


@pytest.fixture
def bank(tmp_path):
    return SourceBank.load(tiny_bank(tmp_path / "data.h5"))


def test_sheet_shows_images_and_captions(bank, tmp_path):
    assert save_contact_sheet(bank, tmp_path / "sheet.png") == 4
    with Image.open(tmp_path / "sheet.png") as opened:
        sheet = np.asarray(opened)
    assert sheet.shape == (TILE + CAPTION, COLUMNS * TILE, 3)
    tiles = sheet[:TILE].reshape(TILE, COLUMNS, TILE, 3)
    assert (tiles[:, :4].reshape(TILE, 4, -1).max(axis=(0, 2)) > 200).all()
    assert not tiles[:, 4:].any()
    captions = sheet[TILE:].reshape(CAPTION, COLUMNS, TILE, 3).astype(int)
    brightest = captions.transpose(1, 0, 2, 3).reshape(COLUMNS, -1, 3).max(axis=1)
    assert (np.ptp(brightest[:3], axis=1) == 0).all()  # grey: train
    assert brightest[3, 2] > brightest[3, 0] + 50  # blue: val
    assert not brightest[4:].any()


def test_no_split_is_missing(bank):
    for seed in range(5):
        chosen = choose(bank, 2, seed)
        assert {str(bank.split[index]) for index in chosen} == {"train", "val"}
    assert choose(bank, 99, 0) == [0, 1, 2, 3]


def test_a_folder_that_is_not_there_is_told(bank, tmp_path):
    with pytest.raises(OutputError, match="can't write"):
        save_contact_sheet(bank, tmp_path / "absent" / "sheet.png")
