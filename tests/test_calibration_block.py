"""When calibration samples are the same, but for noise."""

import numpy as np
import pytest

from chpnet_stream.calibration_block import CalibrationBlock, central_run

COILS, LINES, COLUMNS = 8, 24, 24
WHITE = np.eye(COILS, dtype=np.complex64)


def noise(seed: int, sigma: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (COILS, LINES, COLUMNS)
    white = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return (sigma * np.sqrt(0.5) * white).astype(np.complex64)


def signal(shift: float = 0.0, blob: float = 1.0) -> np.ndarray:
    """K-space of an object seen by coils with different weights; a small part of it may change."""
    y, x = np.mgrid[-0.5 : 0.5 : LINES * 1j, -0.5 : 0.5 : COLUMNS * 1j]
    image = np.exp(-20 * ((x - shift) ** 2 + y**2)) + 0.3 * blob * (np.hypot(x - 0.2, y) < 0.05)
    coils = (
        np.exp(1j * np.arange(COILS)[:, None, None] * (x + y))
        / (1 + np.arange(COILS))[:, None, None]
    )
    k = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(coils * image, axes=(1, 2)), norm="ortho"))
    return (300 * k).astype(np.complex64)


def block(samples: np.ndarray, averages: float = 1.0) -> CalibrationBlock:
    return CalibrationBlock(samples, np.full(LINES, averages), (64, 64))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("averages", [1, 4])
def test_noise_is_noise(seed: int, averages: int) -> None:
    spread = averages**-0.5
    old, new = (block(signal() + noise(2 * seed + i, spread), averages) for i in (0, 1))
    assert new.is_noise_from(old, WHITE)
    drifted = block(0.97 * np.exp(0.3j) * new.samples, averages)
    assert drifted.is_noise_from(old, WHITE)


@pytest.mark.parametrize(
    "changed",
    [
        signal(shift=0.02),  # the head has moved by 2 % of the field of view
        signal(blob=0.5),  # something small is darker
        signal() * np.where(np.arange(COILS) == 0, 0.8, 1)[:, None, None],  # a coil is looser
    ],
)
def test_other_changes_are_seen(changed: np.ndarray) -> None:
    old, new = block(signal() + noise(0)), block(changed.astype(np.complex64) + noise(1))
    assert not new.is_noise_from(old, WHITE)


def test_a_wrong_noise_level_proves_nothing() -> None:
    old, new = block(signal() + noise(0)), block(signal() + noise(1))
    for factor in (0.3, 3.0):
        assert not new.is_noise_from(old, factor * WHITE)
    assert not new.is_noise_from(block(np.zeros_like(old.samples)), WHITE)


def test_what_both_have_measured_is_compared() -> None:
    """Undersampled lines beside the calibration lines make the block longer, now and then."""
    old, new = signal() + noise(0), signal() + noise(1)
    short = CalibrationBlock(old[:, 2:20, 1:], np.ones(18), (64, 64), (2, 1))
    long = CalibrationBlock(new, np.ones(LINES), (64, 64))
    assert long.is_noise_from(short, WHITE)
    assert short.is_noise_from(long, WHITE)
    assert not long.equals(short)
    elsewhere = CalibrationBlock(old[:, 2:20, 1:], np.ones(18), (64, 64), (3, 1))
    assert not long.is_noise_from(elsewhere, WHITE)  # the same samples at another place
    less = CalibrationBlock(old[:, 4:20], np.ones(16), (64, 64), (4, 0))
    assert not long.is_noise_from(less, WHITE)  # two thirds of the lines are too few


def test_other_shapes_are_other_calibrations() -> None:
    one = block(signal())
    assert one.equals(block(signal()))
    assert not one.equals(block(signal() + noise(0)))
    for other in (
        CalibrationBlock(one.samples, one.averages, (64, 32)),
        CalibrationBlock(one.samples[:, 2:], one.averages[2:], (64, 64)),
    ):
        assert not one.equals(other)
        assert not one.is_noise_from(other, WHITE)


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("1111111111", 4, range(3, 7)),
        ("1111111111", 32, range(10)),
        ("1010111010", 8, range(4, 7)),
        ("1111101111", 8, range(5, 5)),
        ("0000011111", 6, range(5, 8)),
        ("1", 8, range(1)),
    ],
)
def test_central_run(text: str, most: int, expected: range) -> None:
    found = central_run(np.array([c == "1" for c in text]), most)
    assert found == expected
