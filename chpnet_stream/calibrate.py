"""From a slice's calibration lines to what its reconstruction needs: coil matrix and maps."""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chpnet_stream.errors import MissingCalibrationError, ReconstructionError
from chpnet_stream.physics.coils import compression_matrix, espirit
from chpnet_stream.physics.noise_level import estimate_noise
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.slices import Slice

FEWEST_LINES = 8
MOST_LINES = 32
CACHE_BYTES = 512 * 2**20
LEAST_NOISE = 1e-6
"""Least noise that is believed, relative to the largest sample: below it data count as clean."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sensitivities:
    """What is known of the coils at one slice position.

    Attributes:
        matrix: Whitening and coil compression in one, complex `virtual coils`; noise has unit
            variance (of a complex sample) behind it.
        maps: Complex `virtual y x`, unit norm inside the object, zero outside.
    """

    matrix: Tensor
    maps: Tensor


class CoilCalibration:
    """Whitening for the scan, and maps for every slice position, kept until they change.

    Args:
        noise: Noise measured before the scan's first image line; may be empty.
        device: Where the maps are computed and kept.
        virtual_coils: Most virtual coils after compression.
    """

    def __init__(self, noise: NoiseScan, device: torch.device, virtual_coils: int = 8) -> None:
        self.noise = noise
        self.device = device
        self.virtual_coils = virtual_coils
        self.noise_source = "none"
        self._whitening: Tensor | None = None
        self._maps: OrderedDict[tuple[int, ...], Sensitivities] = OrderedDict()

    @property
    def has_maps(self) -> bool:
        """Whether there were coil maps for any slice so far."""
        return bool(self._maps)

    def whitening(self, data: Slice) -> Tensor:
        """Matrix `coils coils` (on the CPU) that gives noise unit variance of a complex sample.

        It is made from the noise scan. Where there is none, one factor for all coils comes from
        the first slice: coils keep their balance, and with it the image its shading. It stays the
        same for the whole scan, and so does the scale of the images.

        Raises:
            InconsistentScanError: If the noise scan has other coils than the slice.
        """
        if self._whitening is None and not self.noise.is_empty:
            if self.noise.covariance.any():
                dwell = float(data.head.sample_time_us)
                matrix = self.noise.whitening(dwell, coils=data.kspace.shape[0])
                self._whitening = torch.from_numpy(matrix)
                self.noise_source = self.noise.source
            else:
                logger.warning("the noise scan holds only zeros; going on as if there were none")
        if self._whitening is None:
            return self._estimate(data)
        return self._whitening

    def _estimate(self, data: Slice) -> Tensor:
        """The same from the slice itself; kept for the scan unless the slice is empty."""
        kspace = torch.from_numpy(data.kspace)
        levels = estimate_noise(kspace, torch.from_numpy(data.sampled), data.echo_samples)
        levels = levels[levels > 0]
        level = float(levels.square().mean().sqrt()) if len(levels) else 0.0
        largest = float(kspace.abs().max())
        one = torch.eye(len(kspace), dtype=torch.complex64)
        if largest == 0:
            return one
        least = LEAST_NOISE * largest
        self.noise_source = "estimated" if level > least else "none"
        self._whitening = one / max(level, least)
        return self._whitening

    def sensitivities(self, data: Slice) -> Sensitivities:
        """Maps for a slice: from the cache where its calibration lines are still the same.

        Raises:
            MissingCalibrationError: If the slice has too few calibration lines.
            ReconstructionError: If its calibration lines give no maps, for lack of signal.
            InconsistentScanError: If the noise scan has other coils than the slice.
        """
        counters = data.counters
        key: tuple[int, ...] = (
            counters["slice"],
            counters.get("partition", 0),
            data.calibration_version,
        )
        if data.calibration is None:  # from the data themselves: new lines, new maps
            key = (*key, *(counters[c] for c in ("contrast", "phase", "repetition", "set")))
        found = self._maps.get(key)
        if found is None:
            found = self._maps[key] = self._calibrate(data)
            each = found.maps.numel() * found.maps.element_size()
            while len(self._maps) > 1 and len(self._maps) * each > CACHE_BYTES:
                self._maps.popitem(last=False)
        else:
            self._maps.move_to_end(key)
        return found

    def _calibrate(self, data: Slice) -> Sensitivities:
        lines, columns = data.kspace.shape[1:]
        whitening = self.whitening(data).to(self.device)
        if data.kspace.shape[0] == 1:
            maps = torch.ones((1, lines, columns), dtype=torch.complex64, device=self.device)
            return Sensitivities(whitening, maps)
        source, rows = _calibration_lines(data)
        if len(rows) < FEWEST_LINES:
            raise MissingCalibrationError(
                f"slice {data.counters['slice']}: found {len(rows)} measured lines side by side at "
                f"the k-space centre of {lines}, expected at least {FEWEST_LINES} to estimate coil "
                "sensitivities; measure calibration lines, or use --method rss"
            )
        first, last = data.echo_samples
        half = max(12, len(rows) // 2)
        centre = columns // 2
        samples = slice(max(centre - half, first), min(centre + half, last))
        block = torch.from_numpy(source[:, rows.start : rows.stop, samples]).to(self.device)
        block = torch.einsum("vc,cyx->vyx", whitening, block)
        try:
            compression = compression_matrix(block, limit=self.virtual_coils)
            block = torch.einsum("vc,cyx->vyx", compression, block)
            maps = espirit(block, (lines, columns)).maps
        except (ValueError, torch.linalg.LinAlgError) as error:
            raise ReconstructionError(
                f"slice {data.counters['slice']}: no coil sensitivities from {len(rows)} lines: "
                f"{error}; check the calibration lines"
            ) from error
        return Sensitivities(compression @ whitening, maps)


def _calibration_lines(data: Slice) -> tuple[np.ndarray, range]:
    """K-space `coils ky kx` to calibrate from, and its measured lines around the centre."""
    own = central_run(data.sampled > 0, MOST_LINES)
    if data.calibration is None:
        return data.kspace, own
    rows = central_run(data.calibrated, MOST_LINES)
    if len(rows) < FEWEST_LINES <= len(own):
        return data.kspace, own
    return data.calibration, rows


def central_run(measured: np.ndarray, most: int) -> range:
    """The measured lines around the centre without a gap, as many on both sides if possible.

    Args:
        measured: Bool `ky`.
        most: Largest number of lines returned.
    """
    centre = len(measured) // 2
    if not measured[centre]:
        return range(centre, centre)
    gaps = np.flatnonzero(~measured)
    low = int(gaps[gaps < centre].max(initial=-1)) + 1
    high = int(gaps[gaps > centre].min(initial=len(measured)))
    return range(max(low, centre - most // 2), min(high, centre + most // 2))
