"""Training samples from raw slices: measured coils, phase and noise instead of simulated ones."""

from __future__ import annotations

import numpy as np
import torch

from chpnet_stream.errors import InputError
from chpnet_stream.physics.coils import combine, compression_matrix, espirit
from chpnet_stream.physics.fourier import ifft
from chpnet_training.simulation import (
    Sample,
    SimulationConfig,
    draw_calibration,
    draw_sample,
)


def measured_samples(
    kspace: np.ndarray, config: SimulationConfig, rng: np.random.Generator
) -> list[Sample]:
    """Undersample one fully sampled slice, and take `config.strips` samples from it.

    As `simulate_samples` does: coil compression and ESPIRiT maps from the central lines that every
    mask keeps. The target is the combination of all lines by the same maps, so that it has the
    noise of the full scan. Of the config, the ranges of masks, calibration lines, virtual coils,
    strips and the error of the noise level apply; matrix, coils and noise are those of the scan.

    Args:
        kspace: complex64 `coils ky kx`, every line measured, noise of unit variance (of a complex
            sample): `SourceBank.kspace`.
        config: The ranges to draw from.
        rng: Source of all randomness.

    Returns:
        Samples of a slice whose target has the 99th percentile of its magnitude at one; strips are
        narrower than `config.strip` where the slice is.

    Raises:
        InputError: If the slice gives no coil maps.
    """
    data = torch.from_numpy(np.ascontiguousarray(kspace, dtype=np.complex64))
    lines, columns = data.shape[1:]
    calibration, width = draw_calibration(data, config, rng)
    try:
        matrix = compression_matrix(calibration, limit=config.virtual_coils)
        calibration = torch.einsum("vc,cyx->vyx", matrix, calibration)
        maps = espirit(calibration, (lines, columns)).maps
    except (ValueError, torch.linalg.LinAlgError) as error:
        raise InputError(
            f"k-space {tuple(kspace.shape)}: no coil maps ({error}); leave out this slice"
        ) from error
    hybrid = torch.einsum("vc,cyx->vyx", matrix, ifft(data, dim=-1))
    full = combine(ifft(hybrid, dim=-2), maps)
    scale = float(torch.quantile(full.abs().flatten(), 0.99))
    if scale <= 0:
        raise InputError(
            f"k-space {tuple(kspace.shape)}: no signal in the image; leave out this slice"
        )
    target, hybrid = full / scale, hybrid / scale
    sigma = 0.5**0.5 / scale

    samples = []
    strip = min(config.strip, columns)
    for _ in range(config.strips):
        left = int(rng.integers(0, columns - strip + 1))
        part = slice(left, left + strip)
        strip_of = (hybrid[:, :, part], maps[:, :, part], target[:, part])
        samples.append(draw_sample(*strip_of, width, sigma, config, rng))
    return samples
