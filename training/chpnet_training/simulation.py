"""Simulated parallel imaging: from a magnitude image to what the student is trained on.

A slice is drawn on a fine grid, given a contrast, a bias field, a smooth phase and small
extra structures, cut to the scan's matrix in k-space (so that it rings as a measured image
rings), seen through simulated receive coils, and measured with noise. Coil compression and
ESPIRiT maps then come from its noisy calibration lines, by the very code that
reconstructs a real scan: errors of the maps are part of what the student learns to live with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor
from torch.nn import functional

from chpnet_stream.physics.coils import combine, compression_matrix, espirit
from chpnet_stream.physics.fourier import fft, ifft, resize_centred
from chpnet_stream.physics.sampling import (
    calibration_range,
    equispaced_mask,
    partial_fourier_mask,
    random_mask,
)
from chpnet_stream.simulation.coils import loop_coil_maps

LEAST_CALIBRATION = 6
"""Lines, of which an even number is drawn; `chpnet_stream.physics.coils.espirit` needs as many."""


class SimulationConfig(BaseModel):
    """Ranges from which every simulated scan is drawn."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    matrix_y: tuple[int, int] = Field((120, 200), description="phase-encode lines, from, to")
    matrix_x: tuple[int, int] = Field((160, 256), description="readout samples, from, to")
    multiple: int = Field(8, ge=1, description="lines are a multiple of this")
    strip: int = Field(80, ge=16, description="image columns that one sample keeps")
    strips: int = Field(2, ge=1, description="samples taken from one simulated slice")
    coils: tuple[int, int] = Field((4, 16), description="receive coils, from, to")
    virtual_coils: int = Field(8, ge=1, description="most coils after compression")
    accelerations: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (2, 3, 4, 4, 4, 5, 6, 8), min_length=1, description="R; one of these is drawn"
    )
    calibration: tuple[int, int] = Field((16, 32), description="calibration lines, from, to")
    noise: tuple[float, float] = Field(
        (0.002, 0.04), description="standard deviation of a real part over the 99th percentile"
    )
    random_lines: float = Field(0.15, ge=0, le=1, description="share of random masks")
    partial_fourier: float = Field(0.15, ge=0, le=1, description="share of partial Fourier scans")
    extra_structure: float = Field(0.4, ge=0, le=1, description="share with added small objects")
    texture: float = Field(0.6, ge=0, le=1, description="share with added texture")
    texture_strength: tuple[float, float] = Field(
        (0.02, 0.15), description="standard deviation of the texture over the image"
    )
    sharpening: float = Field(0.6, ge=0, le=1, description="share with raised high frequencies")
    sharpening_gain: float = Field(3.0, ge=0, description="largest gain at the edge of k-space")
    noise_error: float = Field(
        0.2, ge=0, description="standard deviation of the logarithm of a wrong noise level"
    )

    @field_validator("matrix_y", "matrix_x", "coils", "calibration", "noise", "texture_strength")
    @classmethod
    def _ordered(cls, found: tuple[float, float]) -> tuple[float, float]:
        if not 0 < found[0] <= found[1]:
            raise ValueError(f"expected a range from above zero upwards, found {found}")
        return found

    @field_validator("calibration")
    @classmethod
    def _kernel_fits(cls, found: tuple[int, int]) -> tuple[int, int]:
        if found[0] < LEAST_CALIBRATION:
            raise ValueError(
                f"expected at least {LEAST_CALIBRATION} lines, the width of ESPIRiT's kernel, "
                f"found {found[0]}"
            )
        return found

    @model_validator(mode="after")
    def _strip_fits(self) -> SimulationConfig:
        lines, columns = (
            sizes[0] // self.multiple * self.multiple for sizes in (self.matrix_y, self.matrix_x)
        )
        if lines == 0:
            raise ValueError(
                f"expected matrix_y from at least multiple = {self.multiple}, found it from "
                f"{self.matrix_y[0]}"
            )
        if self.strip > columns:
            raise ValueError(
                f"expected a strip of at most {columns} columns (matrix_x begins at "
                f"{self.matrix_x[0]}, in steps of multiple = {self.multiple}), found {self.strip}"
            )
        return self


@dataclass
class Sample:
    """One strip of a simulated slice, ready for the student.

    Attributes:
        maps: Complex `coils y x`, of the strip's columns.
        mask: Real `ky`.
        adjoint: A* y, complex `y x`.
        target: Noise-free combined image, complex `y x`.
        noise: Standard deviation of the real part of the noise, in the image's units, as the
            student is told; a scan knows it only so well.
    """

    maps: Tensor
    mask: Tensor
    adjoint: Tensor
    target: Tensor
    noise: float


def simulate_samples(
    magnitude: np.ndarray, config: SimulationConfig, rng: np.random.Generator
) -> list[Sample]:
    """Simulate one slice and take `config.strips` samples from it.

    Args:
        magnitude: Magnitude image `y x`, 0 to about 1.
        config: The ranges to draw from.
        rng: Source of all randomness.

    Returns:
        Samples of a slice whose object has the 99th percentile of its magnitude at one; the
        receive profile of the coils is in the target on top of that.
    """
    step = config.multiple
    lines = int(rng.integers(config.matrix_y[0] // step, config.matrix_y[1] // step + 1)) * step
    columns = int(rng.integers(config.matrix_x[0] // step, config.matrix_x[1] // step + 1)) * step
    image = draw_image(magnitude, (lines, columns), config, rng)
    n_coils = int(rng.integers(config.coils[0], config.coils[1] + 1))
    sensitivities = torch.from_numpy(
        loop_coil_maps(
            n_coils,
            (lines, columns),
            (200.0 * float(rng.uniform(0.8, 1.2)), 220.0),
            slice_offset_mm=float(rng.uniform(-60, 60)),
            rng=rng,
            grid=20,
        )
    )
    clean = sensitivities * image
    sigma = float(np.exp(rng.uniform(*np.log(config.noise))))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    white = torch.randn(*clean.shape, 2, generator=generator)
    measured = fft(clean) + sigma * torch.view_as_complex(white)

    calibration, width = draw_calibration(measured, config, rng)
    matrix = compression_matrix(calibration, limit=config.virtual_coils)
    calibration = torch.einsum("vc,cyx->vyx", matrix, calibration)
    hybrid = torch.einsum("vc,cyx->vyx", matrix, ifft(measured, dim=-1))
    clean = torch.einsum("vc,cyx->vyx", matrix, clean)

    samples = []
    for _ in range(config.strips):
        left = int(rng.integers(0, columns - config.strip + 1))
        part = slice(left, left + config.strip)
        maps = espirit(calibration, (lines, columns), columns=part).maps
        # 1.0 is a unit of the whole slice, not of the strip: edges of the head stay dim
        target = combine(clean[:, :, part], maps)
        samples.append(draw_sample(hybrid[:, :, part], maps, target, width, sigma, config, rng))
    return samples


def draw_calibration(
    kspace: Tensor, config: SimulationConfig, rng: np.random.Generator
) -> tuple[Tensor, int]:
    """Calibration lines of a slice `coils ky kx`, cut along the readout as well; their number."""
    lines, columns = kspace.shape[1:]
    width = 2 * int(rng.integers(config.calibration[0] // 2, config.calibration[1] // 2 + 1))
    width = min(width, lines)
    readout = calibration_range(columns, max(24, width))
    rows = calibration_range(lines, width)
    return kspace[:, rows.start : rows.stop, readout.start : readout.stop], width


def draw_sample(
    hybrid: Tensor,
    maps: Tensor,
    target: Tensor,
    calibration: int,
    noise: float,
    config: SimulationConfig,
    rng: np.random.Generator,
) -> Sample:
    """Undersample a strip by a drawn mask.

    Args:
        hybrid: All lines, `coils ky x`.
        maps: Of the strip, `coils y x`.
        target: Of the strip, `y x`.
        calibration: Calibration lines.
        noise: Standard deviation of the real part; the student is told about that much.
        config: The ranges to draw from.
        rng: Source of all randomness.
    """
    mask = draw_mask(hybrid.shape[1], calibration, config, rng)
    adjoint = combine(ifft(hybrid * mask[:, None], dim=-2), maps)
    told = noise * float(np.exp(rng.normal(0.0, config.noise_error)))
    return Sample(maps, mask, adjoint, target, told)


def draw_mask(
    lines: int, calibration: int, config: SimulationConfig, rng: np.random.Generator
) -> Tensor:
    """Draw a sampling pattern `ky` (1 measured, 0 not) with the calibration lines in it."""
    acceleration = int(rng.choice(config.accelerations))
    if rng.random() < config.random_lines:
        mask = random_mask(lines, max(acceleration * 0.75, 2.0), calibration, rng)
    else:
        offset = int(rng.integers(acceleration))
        mask = equispaced_mask(lines, acceleration, calibration, offset=offset)
    if rng.random() < config.partial_fourier:
        fraction = float(rng.uniform(0.65, 0.95))
        centre = torch.zeros(lines, dtype=torch.bool)
        centre[list(calibration_range(lines, calibration))] = True
        early = bool(rng.random() < 0.5)
        mask = mask & (partial_fourier_mask(lines, fraction, early=early) | centre)
    return mask.float()


def draw_image(
    magnitude: np.ndarray,
    shape: tuple[int, int],
    config: SimulationConfig,
    rng: np.random.Generator,
) -> Tensor:
    """A complex image `y x` with the resolution and the ringing of its k-space matrix."""
    source = torch.from_numpy(np.ascontiguousarray(magnitude, dtype=np.float32))
    fine = (2 * shape[0], 2 * shape[1])
    image = _place(source, fine, rng)
    image = _contrast(image, rng)
    if rng.random() < config.extra_structure:
        image = _add_structures(image, rng)
    if rng.random() < config.texture:
        strength = float(np.exp(rng.uniform(*np.log(config.texture_strength))))
        image = image * (1 + strength * _texture(fine, float(rng.uniform(0.3, 1.5)), rng))
    image = image * torch.exp(0.25 * _smooth_field(fine, 4, rng))
    kspace = resize_centred(fft(image), shape) / 2.0
    if rng.random() < config.sharpening:  # pictures were smoothed on their way; scans are not
        gain = float(rng.uniform(0, config.sharpening_gain))
        kspace = kspace * (1 + gain * _squared_radius(shape))
    if rng.random() < 0.2:  # some scanners filter what they measure
        kspace = kspace * _window(shape, float(rng.uniform(0.1, 0.5)))
    cut = ifft(kspace)
    scale = torch.quantile(cut.abs().flatten()[::4], 0.99).clamp_min(1e-6)
    y = torch.linspace(-1, 1, shape[0])[:, None]
    x = torch.linspace(-1, 1, shape[1])[None, :]
    c = rng.normal(0, 1.0, 6)
    phase = c[0] * np.pi + 1.5 * (c[1] * y + c[2] * x) + 0.8 * (c[3] * y * y + c[4] * x * x)
    phase = phase + 0.8 * c[5] * x * y + 0.5 * abs(rng.normal()) * _smooth_field(shape, 6, rng)
    return cut / scale * torch.exp(1j * phase)


def _place(source: Tensor, fine: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """Turn, flip, stretch and shift the picture onto the fine grid, air around it."""
    angle = np.pi / 2 * rng.integers(4) + rng.normal(0, 0.15)
    stretch = np.exp(rng.normal(0, 0.08, 2)) * rng.choice([-1.0, 1.0], 2)
    fill = rng.uniform(0.8, 1.15)
    height, width = source.shape
    size = max(height, width)
    # one source pixel is as high as it is wide; the longer side fills `fill` of the lines
    y = torch.linspace(-1, 1, fine[0])[:, None] / fill * stretch[0] + rng.normal(0, 0.03)
    x = torch.linspace(-1, 1, fine[1])[None, :] / fill * stretch[1] + rng.normal(0, 0.03)
    if rng.random() < 0.7:
        x = x * fine[1] / fine[0]
    v = (np.cos(angle) * y + np.sin(angle) * x) * size / height
    u = (-np.sin(angle) * y + np.cos(angle) * x) * size / width
    grid = torch.stack([u.expand(fine), v.expand(fine)], dim=-1)[None].float()
    placed = functional.grid_sample(source[None, None], grid, mode="bilinear", align_corners=False)
    return placed[0, 0]


def _contrast(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Another weighting: a gamma, a random monotone curve, or tissues that change places."""
    kind = rng.random()
    if kind < 0.35:
        return image.clamp_min(0) ** float(np.exp(rng.uniform(-0.5, 0.5)))
    knots = np.concatenate([[0.0], np.cumsum(rng.uniform(0.1, 1.0, 6))])
    if kind < 0.55:
        curve = np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, 7), knots / knots[-1])
    elif kind < 0.75:  # not monotone: tissues change places, air stays dark
        values = np.concatenate([[0.0, 0.02], rng.uniform(0.05, 1.0, 6)])
        curve = np.interp(np.linspace(0, 1, 256), [0, 0.08, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0], values)
    else:
        return image
    table = torch.from_numpy(curve.astype(np.float32))
    position = image.clamp(0, 1) * 255
    low = position.floor().long().clamp(0, 254)
    return table[low] + (table[low + 1] - table[low]) * (position - low)


def _add_structures(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Small ellipses and thin bars inside the object, which no anatomy explains."""
    y = torch.arange(image.shape[0], dtype=torch.float32)[:, None]
    x = torch.arange(image.shape[1], dtype=torch.float32)[None, :]
    inside = torch.nonzero(image > 0.15)
    if len(inside) == 0:
        return image
    image = image.clone()
    for _ in range(int(rng.integers(1, 9))):
        cy, cx = inside[int(rng.integers(len(inside)))].tolist()
        angle = float(rng.uniform(0, np.pi))
        u = np.cos(angle) * (x - cx) + np.sin(angle) * (y - cy)
        v = -np.sin(angle) * (x - cx) + np.cos(angle) * (y - cy)
        long = float(np.exp(rng.uniform(np.log(2), np.log(30))))
        short = long * float(rng.uniform(0.08, 1.0))
        soft = torch.sigmoid(2.0 * short * (1 - torch.sqrt((u / long) ** 2 + (v / short) ** 2)))
        image = image + soft * (float(rng.uniform(0, 1.2)) - image)
    return image


def _smooth_field(shape: tuple[int, int], knots: int, rng: np.random.Generator) -> Tensor:
    """Standard normal values on a coarse grid, interpolated to `shape`."""
    coarse = torch.from_numpy(rng.standard_normal((1, 1, knots, knots)).astype(np.float32))
    fine = functional.interpolate(coarse, size=shape, mode="bicubic", align_corners=True)
    return fine[0, 0]


def _texture(shape: tuple[int, int], slope: float, rng: np.random.Generator) -> Tensor:
    """Noise of unit variance whose amplitude falls with frequency to the power of `slope`."""
    white = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    radius = _squared_radius(shape).sqrt()
    low = 1.0 / min(shape)
    shaped = ifft(fft(white) * (radius + low) ** -slope).real
    return shaped / shaped.std()


def _squared_radius(shape: tuple[int, int]) -> Tensor:
    """Squared distance `ky kx` from the centre of k-space, one at the middle of its edges."""
    y, x = ((torch.arange(n) - n // 2) / (n / 2) for n in shape)
    return y[:, None] ** 2 + x[None, :] ** 2


def _window(shape: tuple[int, int], roll: float) -> Tensor:
    """Tukey window `ky kx` whose cosine edges take the share `roll` of each axis."""
    axes = []
    for size in shape:
        distance = (torch.arange(size) - size // 2).abs() / (size / 2)
        edge = ((distance - (1 - roll)) / roll).clamp(0, 1)
        axes.append(0.5 * (1 + torch.cos(torch.pi * edge)))
    return axes[0][:, None] * axes[1][None, :]
