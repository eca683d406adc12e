import numpy as np

from chpnet_training.cleaning import reject_reason
from chpnet_training.readers.phantoms import HEIGHTS_MM, read_phantoms


def test_heads_are_subjects_of_five_fit_slices():
    images = list(read_phantoms(range(3, 5), size=128))
    assert len(images) == 2 * len(HEIGHTS_MM)
    assert {image.subject for image in images} == {"head 3", "head 4"}
    assert len({image.origin for image in images}) == len(images)
    for image in images:
        assert image.magnitude.shape == (128, 128)
        assert image.magnitude.dtype == np.float32
        assert 0.2 < image.magnitude.max() <= 1
        assert reject_reason(image.magnitude, minimum_side=120) is None


def test_seeds_make_heads():
    first, again, other = (next(read_phantoms([seed], size=64)).magnitude for seed in (1, 1, 3))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
