import numpy as np
import pytest

from chpnet_training.readers.raw import measured_block, virtual_coils


@pytest.mark.parametrize(
    ("lines", "missing", "expected"),
    [
        (8, [], slice(0, 8)),
        (9, [], slice(0, 9)),
        (8, [0], slice(1, 7)),
        (8, [0, 7], slice(1, 7)),
        (16, [15], slice(1, 15)),
        (8, [2], None),
        (8, [4], None),
        (8, [0, 1], None),
        (8, range(8), None),
    ],
)
def test_block_is_symmetric_around_the_centre(lines, missing, expected):
    measured = np.ones(lines, dtype=bool)
    measured[list(missing)] = False
    assert measured_block(measured) == expected


def test_centre_stays_the_centre():
    measured = np.ones(40, dtype=bool)
    measured[:3] = False
    kept = np.arange(40)[measured_block(measured)]
    assert kept[len(kept) // 2] == 20


def test_virtual_coils_are_few_and_keep_noise_white():
    rng = np.random.default_rng(0)
    signal = (
        np.outer(rng.normal(size=12) + 1j, 200 * np.hanning(64))[:, None] * np.hanning(48)[:, None]
    )
    noise = rng.normal(size=(12, 48, 64, 2)) @ np.array([0.5**0.5, 0.5**0.5 * 1j])
    found = virtual_coils(signal + noise, 3)
    assert found.shape[1:] == (48, 64)
    assert 1 <= len(found) <= 3
    assert found.dtype == np.complex64
    energy = np.linalg.norm(found) ** 2 / np.linalg.norm(signal) ** 2
    assert energy == pytest.approx(1, rel=0.01)
    assert np.mean(np.abs(virtual_coils(noise, 8)) ** 2) == pytest.approx(1, rel=0.05)
