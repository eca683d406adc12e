"""Simulated scans for the quality gate, and what its checks find of a network on them.

Scans are drawn as those that the student is trained on, but whole, as slices of k-space with a
noise scan, and reconstructed by the very code that reconstructs measured ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chpnet_stream.damaged_lines import DamagedLines
from chpnet_stream.engines.engine import Engine, Problem
from chpnet_stream.mrd.header import Encoding, ScanHeader
from chpnet_stream.network.normal import to_complex
from chpnet_stream.physics.coils import root_sum_of_squares
from chpnet_stream.physics.fourier import fft, ifft
from chpnet_stream.physics.sampling import calibration_range
from chpnet_stream.quality import Quality
from chpnet_stream.reconstruction import SliceReconstructor
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.slices import Slice
from chpnet_stream.simulation.coils import loop_coil_maps
from chpnet_stream.simulation.header import simulation_header
from chpnet_stream.simulation.options import SimulationOptions
from chpnet_training.simulation import SimulationConfig, draw_image, draw_mask

DWELL_US = 5.0
NOISE_SAMPLES = 2048

SCANS = SimulationConfig(
    matrix_y=(64, 96),
    matrix_x=(64, 96),
    strip=64,
    coils=(4, 12),
    accelerations=(2, 3, 4, 5, 6, 8),
    calibration=(16, 32),
    noise=(0.002, 0.06),
)
"""What good scans are: of small matrices, for there must be thousands of them."""

LARGE = SCANS.model_copy(update={"matrix_y": (160, 256), "matrix_x": (160, 256)})
EVERY = 20
"""One of so many scans is as large as measured ones: limits must hold for any matrix."""


@dataclass
class GateScan:
    """One simulated slice.

    Attributes:
        full: All lines as they would have been measured, complex64 `coils ky kx`.
        clean: The same without noise.
        mask: Lines that were measured, bool `ky`.
        width: Calibration lines, also measured.
        noise: Samples of noise alone, complex64 `coils samples`.
        sigma: Standard deviation of a real part of the noise.
    """

    full: np.ndarray
    clean: np.ndarray
    mask: np.ndarray
    width: int
    noise: np.ndarray
    sigma: float


def draw_scan(
    magnitude: np.ndarray, rng: np.random.Generator, config: SimulationConfig = SCANS
) -> GateScan:
    """Draw a scan of a magnitude image `y x`."""
    step = config.multiple
    lines, columns = (
        int(rng.integers(low // step, high // step + 1)) * step
        for low, high in (config.matrix_y, config.matrix_x)
    )
    image = draw_image(magnitude, (lines, columns), config, rng)
    return scan_of(image, rng, config)


def scan_of(image: Tensor, rng: np.random.Generator, config: SimulationConfig = SCANS) -> GateScan:
    """Draw coils, noise and lines for an image, complex `y x`, with about one as its brightest."""
    coils = int(rng.integers(config.coils[0], config.coils[1] + 1))
    maps = loop_coil_maps(
        coils,
        (image.shape[0], image.shape[1]),
        (200.0 * float(rng.uniform(0.8, 1.2)), 220.0),
        slice_offset_mm=float(rng.uniform(-60, 60)),
        rng=rng,
        grid=20,
    )
    clean = fft(torch.from_numpy(maps) * image).to(torch.complex64).numpy()
    sigma = float(np.exp(rng.uniform(*np.log(config.noise))))
    width = 2 * int(rng.integers(config.calibration[0] // 2, config.calibration[1] // 2 + 1))
    mask = draw_mask(image.shape[0], width, config, rng).numpy() > 0
    return GateScan(
        clean + sigma * _white(rng, clean.shape),
        clean,
        mask,
        width,
        sigma * _white(rng, (coils, NOISE_SAMPLES)),
        sigma,
    )


def _white(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    pairs = rng.standard_normal((*shape, 2), dtype=np.float32)
    return np.ascontiguousarray(pairs).view(np.complex64)[..., 0]


@functools.lru_cache(maxsize=64)
def _encoding(lines: int, columns: int) -> Encoding:
    options = SimulationOptions(matrix=(lines, columns), oversampling=1, acceleration=1)
    return ScanHeader.from_xml(simulation_header(options)).encodings[0]


def slice_of(scan: GateScan) -> tuple[Slice, NoiseScan]:
    """The scan as an assembled slice, and its noise scan."""
    import ismrmrd

    _, lines, columns = scan.full.shape
    centre = calibration_range(lines, scan.width)
    calibrated = np.zeros(lines, dtype=bool)
    calibrated[centre.start : centre.stop] = True
    calibrated &= scan.mask
    head = ismrmrd.AcquisitionHeader()
    head.sample_time_us = DWELL_US
    noise = NoiseScan(noise_bandwidth=1.0)
    acquisition = ismrmrd.Acquisition.from_array(scan.noise)
    acquisition.sample_time_us = DWELL_US
    noise.add(acquisition)
    names = ("slice", "contrast", "phase", "repetition", "set", "partition", "average")
    data = Slice(
        kspace=np.ascontiguousarray(scan.full * scan.mask[None, :, None]),
        sampled=scan.mask.astype(np.int32),
        calibration=np.ascontiguousarray(scan.full * calibrated[None, :, None]),
        calibrated=calibrated,
        calibration_version=1,
        head=head,
        counters=dict.fromkeys(names, 0),
        encoding=_encoding(lines, columns),
        complete=True,
        missing_lines=0,
        first_time_stamp=0,
        last_time_stamp=0,
        echo_samples=(0, columns),
        received_at=0.0,
        edges=0,
    )
    return data, noise


@dataclass(frozen=True)
class Judged:
    """What the gate found of one scan, and how good the network's image really was.

    Attributes:
        quality: Its findings; None where the network made no image to judge.
        worse_db: How much further from the truth the network's image was than the image that it
            started from (CG-SENSE): the ratio of their squared errors in dB, below zero where it
            was nearer. NaN without an image.
        method: What went out in the end.
        gap: Errors of the network's image and of CG-SENSE's, relative to the truth; NaN without.
        damage: What was found of the measured lines; None where they were not looked at.
    """

    quality: Quality | None
    worse_db: float
    method: str
    gap: tuple[float, float] = (np.nan, np.nan)
    damage: DamagedLines | None = None


class Recorder:
    """An engine that keeps what it was given and what it made, and may spoil that.

    Args:
        engine: The engine.
        spoil: What becomes of its image, complex `y x`; nothing by default.
    """

    def __init__(self, engine: Engine, spoil: Callable[[Tensor], Tensor] | None = None) -> None:
        self.engine, self.spoil = engine, spoil
        self.name, self.card, self.device = engine.name, engine.card, engine.device
        self.problem: Problem | None = None
        self.made: Tensor | None = None

    def run(self, problem: Problem) -> Tensor:
        """See `Engine.run`."""
        made = self.engine.run(problem)
        if self.spoil is not None:
            image = self.spoil(to_complex(made)[0])
            made = torch.view_as_real(image).movedim(-1, 0)[None].contiguous()
        self.problem, self.made = problem, made
        return made


def judge(
    scan: GateScan,
    engine: Engine,
    *,
    spoil: Callable[[Tensor], Tensor] | None = None,
    alter: Callable[[Slice], Slice] | None = None,
) -> Judged:
    """Reconstruct a scan by the network, and gather what the gate finds.

    Args:
        scan: The scan.
        engine: The network.
        spoil: Spoils the network's image, complex `y x`.
        alter: Spoils the data.
    """
    data, noise = slice_of(scan)
    if alter is not None:
        data = alter(data)
    recorder = Recorder(engine, spoil)
    found: list[Quality] = []
    lines: list[DamagedLines] = []
    reconstruct = SliceReconstructor(noise, recorder)
    reconstruct.judged = found.append
    reconstruct.inspected = lines.append
    try:
        made = reconstruct(data)
    finally:
        reconstruct.close()
    damage = lines[0] if lines else None
    if recorder.problem is None or recorder.made is None or not found:
        return Judged(found[0] if found else None, np.nan, made.method, damage=damage)
    whitening = reconstruct.calibration.whitening(data).numpy()
    white = np.einsum("vc,cyx->vyx", whitening, scan.clean)
    truth = root_sum_of_squares(ifft(torch.from_numpy(white.astype(np.complex64))))
    start = to_complex(recorder.problem.start)[0]
    inside = start != 0
    errors = [
        float((x.abs() - truth)[inside].double().square().sum())
        for x in (to_complex(recorder.made)[0], start)
    ]
    size = max(float(truth[inside].double().square().sum()), 1e-30)
    worse = 10 * np.log10(max(errors[0], 1e-30) / max(errors[1], 1e-30))
    gap = (float(np.sqrt(errors[0] / size)), float(np.sqrt(errors[1] / size)))
    return Judged(found[0], worse if np.isfinite(worse) else np.inf, made.method, gap, damage)
