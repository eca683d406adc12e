import io

import numpy as np
import pytest
from PIL import Image

from chpnet_training.cleaning import darken_background, limit_size, perceptual_hash
from chpnet_training.duplicates import DuplicateFinder, tie
from tests.training.test_cleaning import head


def cleaned(image):
    return darken_background(image)


def jpeg(image, quality=60):
    stream = io.BytesIO()
    Image.fromarray(np.round(255 * image).astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream), dtype=np.float32) / 255


COPIES = {
    "encoded again": jpeg,
    "reduced": lambda image: limit_size(image, 170),
    "dimmer": lambda image: 0.7 * image,
    "mirrored": lambda image: image[:, ::-1],
    "mirrored, reduced and encoded again": lambda image: jpeg(limit_size(image, 180))[:, ::-1],
    "in a wider frame": lambda image: np.pad(image, 30),
}


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_copies_are_found(change):
    finder = DuplicateFinder()
    for seed in range(3):
        assert finder.is_new(cleaned(head(seed=seed)), f"s{seed}", picture=True)
    assert not finder.is_new(cleaned(change(head(seed=1))), "other", picture=True)
    assert len(finder.codes) == 3


def test_slices_of_one_subject_stay():
    finder = DuplicateFinder()
    assert finder.is_new(cleaned(head()), "a", picture=False)
    assert finder.is_new(cleaned(head()), "a", picture=False)
    assert not finder.is_new(cleaned(head()), "b", picture=False)


def test_volumes_must_be_nearer_than_pictures():
    image = cleaned(head())
    other = cleaned(head(seed=5))

    def distance(share):
        mixed = (1 - share) * image + share * other
        return float(np.sum(perceptual_hash(image) != perceptual_hash(mixed)))

    share = next(share for share in np.linspace(0, 1, 101) if distance(share) > 6)
    assert distance(share) <= 16
    alike = (1 - share) * image + share * other

    def is_new(picture):
        finder = DuplicateFinder()
        finder.is_new(image, "a", picture=picture)
        return finder.is_new(alike, "b", picture=picture)

    assert is_new(picture=False)
    assert not is_new(picture=True)


def test_memory_grows():
    finder = DuplicateFinder()
    small = np.pad(np.random.default_rng(0).random((24, 24)), 4).astype(np.float32)
    for number in range(1030):
        finder.keep(small, number, picture=True)
    assert len(finder.codes) == 1030
    assert not finder.is_new(small, "x", picture=True)


def test_relatives_are_tied_over_others():
    rng = np.random.default_rng(0)
    codes = np.sign(rng.normal(size=(5, 256))).astype(np.float32)
    codes[3] = codes[0]
    codes[3, :30] *= -1
    codes[4] = codes[3]
    codes[4, 30:60] *= -1  # 60 bits from the first, 30 from the fourth
    assert tie(codes, 44, block=2) == [0, 1, 2, 0, 0]
    assert tie(codes, 0) == [0, 1, 2, 3, 4]
    assert tie(codes[:0]) == []
