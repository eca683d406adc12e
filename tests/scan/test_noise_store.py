"""Noise of measurements: kept, copied, forgotten."""

import numpy as np
import pytest

from chpnet_stream.errors import InconsistentScanError
from chpnet_stream.scan import noise_store
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.noise_store import NoiseStore


class Noise:
    def __init__(self, seed: int, coils: int = 3) -> None:
        rng = np.random.default_rng(seed)
        parts = rng.standard_normal((2, coils, 500))
        self.data = (parts[0] + 1j * parts[1]).astype(np.complex64)
        self.sample_time_us = 5.0
        self.scan_counter = 0


def measured(seed: int) -> NoiseScan:
    made = NoiseScan(0.8)
    made.add(Noise(seed))
    return made


def test_what_is_kept_does_not_change() -> None:
    store, noise = NoiseStore(), measured(0)
    store.put("a", noise)
    before = noise.covariance
    noise.add(Noise(1))
    found = store.get("a")
    assert found is not None
    np.testing.assert_array_equal(found.covariance, before)
    assert store.get("b") is None


def test_the_one_used_longest_ago_goes_first() -> None:
    store = NoiseStore(most=2)
    for name in "ab":
        store.put(name, measured(0))
    store.get("a")
    store.put("c", measured(0))
    assert [store.get(name) is not None for name in "abc"] == [True, False, True]
    assert len(store) == 2


def test_noise_of_yesterday_is_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(noise_store.time, "monotonic", lambda: now)
    store = NoiseStore(hours=1)
    store.put("a", measured(0))
    now += 3599
    assert store.get("a") is not None
    now += 2
    assert store.get("a") is None
    assert len(store) == 0


def test_adopted_noise_whitens_as_where_it_came_from() -> None:
    other, mine = measured(3), NoiseScan(0.5)
    mine.adopt(other, "measurement 7")
    np.testing.assert_array_equal(mine.whitening(2.0), other.whitening(2.0))
    assert mine.source == "noise scan of measurement 7"


def test_noise_of_ones_own_replaces_what_was_adopted() -> None:
    alone, mine = NoiseScan(0.5), NoiseScan(0.5)
    mine.adopt(measured(3), "measurement 7")
    for scan in (alone, mine):
        scan.add(Noise(4))
    np.testing.assert_array_equal(mine.whitening(2.0), alone.whitening(2.0))
    assert mine.source == "noise scan"


def test_a_covariance_is_as_good_as_its_samples() -> None:
    noise = measured(5)
    same = NoiseScan.of_covariance(
        noise.covariance, samples=noise.samples, dwell_time_us=5.0, noise_bandwidth=0.8
    )
    np.testing.assert_allclose(same.whitening(2.0), noise.whitening(2.0), rtol=1e-6)


@pytest.mark.parametrize(
    "matrix", [np.zeros((2, 3)), np.array([[1, 2], [3, 1]]), np.full((2, 2), np.nan)]
)
def test_matrices_that_are_no_covariance(matrix: np.ndarray) -> None:
    with pytest.raises(InconsistentScanError, match="noise covariance"):
        NoiseScan.of_covariance(matrix, samples=10, dwell_time_us=1.0)
