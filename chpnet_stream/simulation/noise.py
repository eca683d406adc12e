"""Receiver noise of a simulated scan: correlated between coils, band-limited in the noise scan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NOISE_BANDWIDTH = 0.793
"""Relative receiver noise bandwidth: mean power of the noise scan over that in the middle band."""


class CoilNoise:
    """Complex Gaussian noise with a fixed covariance between coils.

    Args:
        coils: Number of receive coils.
        sigma: Standard deviation of the real and of the imaginary part, averaged over the coils,
            of one sample at the imaging dwell time.
        rng: Source of the covariance and of the samples.

    Attributes:
        covariance: ``E[n n^H]`` at the imaging dwell time, complex128 `coils coils`.
    """

    def __init__(self, coils: int, sigma: float, rng: np.random.Generator) -> None:
        coupling = 0.15 * (rng.normal(size=(2, coils, coils)) / np.sqrt(coils))
        ring = 0.25 * np.roll(np.eye(coils), 1, axis=1) if coils > 1 else 0.0
        mixing = np.diag(rng.uniform(0.75, 1.25, coils)) + ring + coupling[0] + 1j * coupling[1]
        mixing = mixing / np.sqrt(np.sum(np.abs(mixing) ** 2) / coils)
        self._mixing = sigma * mixing
        self._rng = rng
        self.covariance = 2 * self._mixing @ self._mixing.conj().T

    def samples(self, count: int, dwell_ratio: float = 1.0) -> NDArray[np.complex64]:
        """White noise of a readout, complex64 `coils samples`.

        Args:
            count: Number of samples.
            dwell_ratio: Dwell time over the imaging dwell time; power goes with its inverse.
        """
        white = self._rng.normal(size=(2, self._mixing.shape[0], count))
        noise = self._mixing @ (white[0] + 1j * white[1])
        return (noise / np.sqrt(dwell_ratio)).astype(np.complex64)

    def scan(self, count: int, dwell_ratio: float) -> NDArray[np.complex64]:
        """Noise scan, complex64 `coils samples`: as `samples`, behind the receiver's filter.

        The filter rolls off at the edges of the band, as a real one does, so that the mean power
        is `NOISE_BANDWIDTH` times that in the middle of the band, where the image is.
        """
        noise = self.samples(count, dwell_ratio)
        band = np.abs(np.fft.fftfreq(count)) * 2
        edge = 2 * (1 - NOISE_BANDWIDTH)  # a linear fall of power over this share: its mean is half
        power = np.clip((1 - band) / edge, 0, 1)
        power *= NOISE_BANDWIDTH / power.mean()
        return np.fft.ifft(np.fft.fft(noise) * np.sqrt(power)).astype(np.complex64)
