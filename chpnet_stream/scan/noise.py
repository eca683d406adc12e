"""Noise scans: covariance of the coils, and the matrix that makes their noise white."""

from __future__ import annotations

import logging
from copy import copy
from typing import Any

import numpy as np

from chpnet_stream.errors import BadSamplesError, InconsistentScanError
from chpnet_stream.mrd.header import DEFAULT_NOISE_BANDWIDTH
from chpnet_stream.scan.coil_count import check_coils

DEAD_COIL = 1e-6
"""A coil whose noise variance is below this fraction of the median is called dead."""

LEAST_SAMPLES = 2
"""Samples for each coil. Fewer say nothing of how noise goes together: whitening blows it up."""

REGULARISATION = 1e-7
"""Smallest eigenvalue kept, as a fraction of the largest, of the normalised covariance."""

logger = logging.getLogger(__name__)


class NoiseScan:
    """Accumulates noise acquisitions (flag 19) into a covariance; memory does not grow.

    Attributes:
        origin: Where the noise was taken over from, in words; empty where it is the scan's own.

    Args:
        noise_bandwidth: relative receiver noise bandwidth (acquisitionSystemInformation), the
            ratio of the equivalent noise bandwidth to the sampling bandwidth.
    """

    def __init__(self, noise_bandwidth: float = DEFAULT_NOISE_BANDWIDTH) -> None:
        self.noise_bandwidth = self._own_bandwidth = noise_bandwidth
        self.samples = 0
        self.dwell_time_us = 0.0
        self.origin = ""
        self._sum: np.ndarray | None = None
        self._given = False
        self._mixed = False

    @classmethod
    def of_covariance(
        cls,
        covariance: np.ndarray,
        *,
        samples: int,
        dwell_time_us: float,
        noise_bandwidth: float = DEFAULT_NOISE_BANDWIDTH,
    ) -> NoiseScan:
        """The noise that somebody else has measured.

        Args:
            covariance: E[n n^H] of one complex sample, complex `coils coils`.
            samples: How many samples it was made of.
            dwell_time_us: Time between these.
            noise_bandwidth: As for the class; 0 for the usual one.

        Raises:
            InconsistentScanError: The matrix is not square, not Hermitian, or not finite.
        """
        matrix = np.asarray(covariance, dtype=np.complex128)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
            raise InconsistentScanError(
                f"found a noise covariance {matrix.shape}, expected `coils coils`; check its file"
            )
        if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.conj().T, rtol=1e-3):
            raise InconsistentScanError(
                "found a noise covariance that is not Hermitian or not finite, expected E[n n^H]; "
                "check its file"
            )
        made = cls(noise_bandwidth or DEFAULT_NOISE_BANDWIDTH)
        made.samples, made.dwell_time_us = max(samples, 2), dwell_time_us
        made._sum = matrix * (made.samples - 1)
        made._given = True
        return made

    def adopt(self, other: NoiseScan, origin: str) -> None:
        """Take over what another measurement has found; the first noise of our own replaces it.

        Args:
            other: Its noise, with its own bandwidth and dwell time.
            origin: Where that comes from, in words.
        """
        self.noise_bandwidth = other.noise_bandwidth
        self.samples, self.dwell_time_us = other.samples, other.dwell_time_us
        self._sum, self._given = other.snapshot()._sum, other._given
        self.origin = origin

    def snapshot(self) -> NoiseScan:
        """The noise so far, which later acquisitions don't change."""
        kept = copy(self)
        kept._sum = None if self._sum is None else self._sum.copy()
        return kept

    @property
    def source(self) -> str:
        """Where the noise level comes from, in words."""
        return f"noise scan of {self.origin}" if self.origin else "noise scan"

    def add(self, acquisition: Any) -> None:
        """Add one noise acquisition (`coils samples`).

        One with another dwell time is scaled to that of the first. Of other numbers of coils (a
        body coil's noise beside that of the array), the largest one counts.

        Raises:
            InconsistentScanError: no coils, or too many.
            BadSamplesError: NaN or infinite samples.
        """
        check_coils(acquisition)
        noise = np.asarray(acquisition.data, dtype=np.complex128)
        if not np.isfinite(noise).all():
            raise BadSamplesError(
                f"noise acquisition {acquisition.scan_counter} has NaN or infinite samples, "
                "expected finite numbers; convert or acquire it again"
            )
        dwell = float(acquisition.sample_time_us)
        dwell = dwell if np.isfinite(dwell) else 0.0
        if self.origin:
            self.noise_bandwidth, self.samples, self._sum = self._own_bandwidth, 0, None
            self.origin, self._given = "", False
        if self._sum is not None and noise.shape[0] != len(self._sum) and not self._mixed:
            self._mixed = True
            logger.warning(
                "a noise acquisition has %d coils, those before it %d: those with the most count",
                noise.shape[0],
                len(self._sum),
            )
        if self._sum is None or noise.shape[0] > len(self._sum):
            self._sum = np.zeros((noise.shape[0],) * 2, dtype=np.complex128)
            self.samples, self.dwell_time_us = 0, dwell
        if noise.shape[0] < len(self._sum):
            return
        known = dwell > 0 and self.dwell_time_us > 0
        share = dwell / self.dwell_time_us if known else 1.0  # variance goes with 1 / dwell
        self._sum += share * (noise @ noise.conj().T)
        self.samples += noise.shape[1]

    @property
    def is_empty(self) -> bool:
        """True where no noise was measured."""
        return self._sum is None

    @property
    def flaw(self) -> str:
        """Why it can't be used, in words; empty where it can, and where nothing was measured."""
        least = LEAST_SAMPLES * self.coils
        if self._sum is None:
            return ""
        if not self._sum.any():
            return "the noise scan holds only zeros"
        if not self._given and self.samples < least:
            return (
                f"the noise scan has {self.samples} samples of {self.coils} coils, expected at "
                f"least {least}"
            )
        return ""

    def unfit(self, coils: int) -> str:
        """Why it can't be used for data of so many coils, in words; empty where it can."""
        if self._sum is not None and coils != self.coils:
            return f"the noise scan has {self.coils} coils, the imaging data {coils}"
        return self.flaw

    @property
    def coils(self) -> int:
        """Coils of the noise scan; 0 where there is none."""
        return 0 if self._sum is None else len(self._sum)

    @property
    def covariance(self) -> np.ndarray:
        """E[n n^H] of one complex sample, complex128 `coils coils`, as measured (not scaled).

        Raises:
            InconsistentScanError: nothing was measured.
        """
        if self._sum is None:
            raise InconsistentScanError("no noise was measured, expected acquisitions with flag 19")
        return self._sum / max(self.samples - 1, 1)

    @property
    def dead_coils(self) -> list[int]:
        """Coils with practically no noise: unplugged or switched off."""
        variance = np.real(np.diag(self.covariance))
        return np.flatnonzero(variance <= DEAD_COIL * np.median(variance)).tolist()

    def scale(self, dwell_time_us: float) -> float:
        """Factor from the noise scan's standard deviation to that of data with another dwell time.

        sigma_data = sigma_noise * sqrt(dwell_noise / (dwell_data * bandwidth)): white noise has a
        variance proportional to the sampling bandwidth 1 / dwell, and the noise scan saw only the
        fraction `noise_bandwidth` of it. Source: Kellman and McVeigh, MRM 2005;54:1439 (erratum
        2007;58:211); Gadgetron's NoiseAdjustGadget uses the same. Where either dwell time is 0
        (unknown) or no number, the factor is 1, as there.
        """
        if not 0 < dwell_time_us < np.inf or self.dwell_time_us <= 0:
            return 1.0
        return float(np.sqrt(self.dwell_time_us / (dwell_time_us * self.noise_bandwidth)))

    def whitening(self, dwell_time_us: float, coils: int | None = None) -> np.ndarray:
        """Matrix W, complex64 `coils coils`, that makes the noise of imaging data white.

        For samples n of noise alone, taken with that dwell time, E[(W n)(W n)^H] = 1: unit variance
        of a complex sample, 1/2 in each of the real and the imaginary part. (Gadgetron's matrix is
        sqrt(2) times ours, unit variance in each part.) W is the inverse of the lower Cholesky
        factor, so coils keep their order and their meaning as far as possible.

        A dead coil keeps no noise to divide by: its row and column are zero, so that it drops out
        of the image; `dead_coils` names it. Of too few samples, the covariance is regularised.

        Args:
            dwell_time_us: sample_time_us of the imaging data.
            coils: number of coils of the imaging data, to be checked against the noise scan.

        Raises:
            InconsistentScanError: other coils than in the noise scan, or no noise in it.
        """
        covariance = self.covariance
        if coils is not None and coils != len(covariance):
            raise InconsistentScanError(
                f"the noise scan has {len(covariance)} coils, the imaging data {coils}; expected "
                "the same coils in both"
            )
        alive = np.setdiff1d(np.arange(len(covariance)), self.dead_coils)
        part = covariance[np.ix_(alive, alive)]
        sigma = np.sqrt(np.real(np.diag(part)))
        whitening = np.zeros_like(covariance)
        if len(alive) == 0:
            raise InconsistentScanError(
                f"the noise scan holds only zeros ({self.samples} samples), expected receiver "
                "noise; reconstruct without it"
            )
        correlation = part / np.outer(sigma, sigma)
        floor = REGULARISATION * len(alive)
        lowest = float(np.linalg.eigvalsh(correlation)[0])
        if lowest < floor:
            correlation = correlation + (floor - min(lowest, 0.0)) * np.eye(len(alive))
        inverse = np.linalg.inv(np.linalg.cholesky(correlation)) / sigma[None, :]
        whitening[np.ix_(alive, alive)] = inverse / self.scale(dwell_time_us)
        return whitening.astype(np.complex64)
