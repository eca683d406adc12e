"""What the quality gate is tried on: good scans, damaged and foreign ones, and faulty networks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.physics.sampling import equispaced_mask
from chpnet_training.gate_scans import GateScan, scan_of

Rng = np.random.Generator


@dataclass(frozen=True)
class Case:
    """One way of going wrong, or of being unusual.

    Attributes:
        name: For the table.
        group: "network", "data", "unusual" or "scale".
        should: What the gate should do, in words.
        scan: Alters the scan.
        spoil: Alters the network's image, complex `y x`.
        engine: Alters the network.
    """

    name: str
    group: str
    should: str
    scan: Callable[[GateScan, Rng], GateScan] | None = None
    spoil: Callable[[Tensor, Rng], Tensor] | None = None
    engine: Callable[[PyTorchEngine, Rng], PyTorchEngine] | None = None


def _bright(image: Tensor) -> float:
    return float(torch.quantile(image.abs().flatten(), 0.99))


def _ellipse(height: float, radius: float) -> Callable[[Tensor, Rng], Tensor]:
    def add(image: Tensor, rng: Rng) -> Tensor:
        top = _bright(image)
        inside = torch.nonzero(image.abs() > 0.3 * top)
        if not len(inside):
            return image
        cy, cx = inside[int(rng.integers(len(inside)))]
        y, x = (torch.arange(n) for n in image.shape)
        disc = ((y[:, None] - cy) ** 2 + (x[None, :] - cx) ** 2) < radius**2
        return image + height * top * disc * torch.exp(1j * image.angle())

    return add


def _nan(image: Tensor, rng: Rng) -> Tensor:
    image = image.clone()
    image[int(rng.integers(image.shape[0])), int(rng.integers(image.shape[1]))] = torch.nan
    return image


def _blur(image: Tensor, rng: Rng) -> Tensor:
    return (image + sum(image.roll(s, a) for a in (0, 1) for s in (-1, 1))) / 5


def _weights(error: float) -> Callable[[PyTorchEngine, Rng], PyTorchEngine]:
    def perturb(engine: PyTorchEngine, rng: Rng) -> PyTorchEngine:
        student = copy.deepcopy(engine.network)
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        with torch.no_grad():
            for parameter in student.parameters():
                parameter *= 1 + error * torch.randn(parameter.shape, generator=generator)
        return _with(engine, student)

    return perturb


def _denoiser(factor: float) -> Callable[[PyTorchEngine, Rng], PyTorchEngine]:
    def scale(engine: PyTorchEngine, rng: Rng) -> PyTorchEngine:
        student = copy.deepcopy(engine.network)
        last = len(student.denoisers) - 1
        student.denoisers[last] = _Scaled(student.denoisers[last], factor)
        return _with(engine, student)

    return scale


class _Scaled(nn.Module):
    def __init__(self, denoiser: nn.Module, factor: float) -> None:
        super().__init__()
        self.denoiser, self.factor = denoiser, factor

    def forward(self, x: Tensor, state: Any = None) -> Any:
        image, features = self.denoiser(x, state)
        return image * self.factor, features


def _with(engine: PyTorchEngine, network: nn.Module) -> PyTorchEngine:
    other = copy.copy(engine)
    other.network = network
    return other


def _samples(change: Callable[[np.ndarray, np.ndarray, Rng], None]) -> Any:
    """A case that alters samples in place: `coils ky kx`, and the indices of measured lines."""

    def alter(scan: GateScan, rng: Rng) -> GateScan:
        full = scan.full.copy()
        change(full, np.flatnonzero(scan.mask), rng)
        return replace(scan, full=full)

    return alter


def _swapped(full: np.ndarray, lines: np.ndarray, rng: Rng) -> None:
    for at in rng.choice(len(lines) - 1, 3, replace=False):
        full[:, lines[[at, at + 1]]] = full[:, lines[[at + 1, at]]]


def _dropped(full: np.ndarray, lines: np.ndarray, rng: Rng) -> None:
    full[:, rng.choice(lines, 3, replace=False)] = 0


def _duplicated(full: np.ndarray, lines: np.ndarray, rng: Rng) -> None:
    for at in rng.choice(len(lines) - 1, 3, replace=False):
        full[:, lines[at + 1]] = full[:, lines[at]]


def _spikes(full: np.ndarray, lines: np.ndarray, rng: Rng) -> None:
    for _ in range(3):
        at = (int(rng.choice(lines)), int(rng.integers(full.shape[2])))
        full[:, at[0], at[1]] += 0.5 * np.abs(full).max() * np.exp(2j * np.pi * rng.random())


def _phases(full: np.ndarray, lines: np.ndarray, rng: Rng) -> None:
    full *= np.exp(0.5j * rng.standard_normal(full.shape[1]))[None, :, None].astype(np.complex64)


def _motion(full: np.ndarray, lines: np.ndarray, rng: Rng) -> None:
    n = full.shape[1]
    ramp = np.exp(-2j * np.pi * 4 * (np.arange(n) - n // 2) / n).astype(np.complex64)
    late = lines[lines >= int(rng.integers(n // 3, 2 * n // 3))]
    full[:, late] *= ramp[late, None]


def _clipped(full: np.ndarray, lines: np.ndarray, rng: Rng) -> None:
    top = 0.1 * np.abs(full).max()
    full[:] = np.clip(full.real, -top, top) + 1j * np.clip(full.imag, -top, top)


def _flipped(full: np.ndarray, lines: np.ndarray, rng: Rng) -> None:
    full[:, 1::2] = full[:, 1::2, ::-1].copy()


def _foreign_maps(scan: GateScan, rng: Rng) -> GateScan:
    """The calibration lines of other coils: channels in another order in the image lines."""
    order = np.roll(np.arange(len(scan.full)), 1)
    full = scan.full.copy()
    n = full.shape[1]
    outer = np.ones(n, dtype=bool)
    outer[n // 2 - scan.width // 2 : n // 2 + scan.width // 2] = False
    full[:, outer] = scan.full[order][:, outer]
    return replace(scan, full=full)


def _noise_scan(factor: float) -> Callable[[GateScan, Rng], GateScan]:
    return lambda scan, rng: replace(scan, noise=scan.noise * np.float32(factor))


def _image(make: Callable[[tuple[int, int], Rng], np.ndarray]) -> Any:
    """A scan of another picture than a head."""

    def alter(scan: GateScan, rng: Rng) -> GateScan:
        picture = make((scan.full.shape[1], scan.full.shape[2]), rng).astype(np.complex64)
        return scan_of(torch.from_numpy(picture), rng)

    return alter


def _checkerboard(shape: tuple[int, int], rng: Rng) -> np.ndarray:
    size = int(rng.integers(3, 9))
    y, x = np.indices(shape)
    return ((y // size + x // size) % 2).astype(float)


def _letters(shape: tuple[int, int], rng: Rng) -> np.ndarray:
    from PIL import Image, ImageDraw

    picture = Image.new("L", (shape[1], shape[0]))
    draw = ImageDraw.Draw(picture)
    for row in range(2, shape[0] - 10, 11):
        text = "".join(chr(int(c)) for c in rng.integers(65, 91, shape[1] // 6))
        draw.text((3, row), text, fill=255)
    return np.asarray(picture, dtype=float) / 255


def _noise_only(scan: GateScan, rng: Rng) -> GateScan:
    return replace(scan, full=scan.full - scan.clean, clean=0 * scan.clean)


def _louder(scan: GateScan, rng: Rng) -> GateScan:
    factor = np.float32(0.3 / scan.sigma)
    full = scan.clean + factor * (scan.full - scan.clean)
    return replace(scan, full=full, noise=scan.noise * factor, sigma=0.3)


def _far(acceleration: int) -> Callable[[GateScan, Rng], GateScan]:
    def alter(scan: GateScan, rng: Rng) -> GateScan:
        mask = equispaced_mask(scan.full.shape[1], acceleration, 16).numpy() > 0
        return replace(scan, mask=mask, width=16)

    return alter


def _whole(scan: GateScan, rng: Rng) -> GateScan:
    return replace(scan, mask=np.ones_like(scan.mask))


def _scaled(factor: float, *, noise: bool) -> Callable[[GateScan, Rng], GateScan]:
    def alter(scan: GateScan, rng: Rng) -> GateScan:
        f = np.float32(factor)
        return replace(
            scan,
            full=scan.full * f,
            clean=scan.clean * f,
            noise=scan.noise * f if noise else scan.noise,
        )

    return alter


def _loud_coil(scan: GateScan, rng: Rng) -> GateScan:
    gain = np.ones((len(scan.full), 1, 1), dtype=np.float32)
    gain[int(rng.integers(len(gain)))] = 1000
    return replace(
        scan, full=scan.full * gain, clean=scan.clean * gain, noise=scan.noise * gain[:, 0]
    )


REFUSE, WORSE, MARK = "refuse", "refuse where worse", "mark"

CASES = (
    Case("NaN in one pixel", "network", REFUSE, spoil=_nan),
    Case("image x 1.05", "network", WORSE, spoil=lambda x, r: 1.05 * x),
    Case("image x 1.2", "network", REFUSE, spoil=lambda x, r: 1.2 * x),
    Case("image x 0.5", "network", REFUSE, spoil=lambda x, r: 0.5 * x),
    Case("shifted by 1 pixel", "network", REFUSE, spoil=lambda x, r: x.roll(1, 0)),
    Case("shifted by 3 pixels", "network", REFUSE, spoil=lambda x, r: x.roll(3, 1)),
    Case("conjugated", "network", REFUSE, spoil=lambda x, r: x.conj().resolve_conj()),
    Case("upside down", "network", REFUSE, spoil=lambda x, r: x.flip(0)),
    Case("blurred", "network", WORSE, spoil=_blur),
    Case("disc added, radius 3, 30 %", "network", REFUSE, spoil=_ellipse(0.3, 3)),
    Case("disc added, radius 6, 30 %", "network", REFUSE, spoil=_ellipse(0.3, 6)),
    Case("disc added, radius 6, 15 %", "network", REFUSE, spoil=_ellipse(0.15, 6)),
    Case(
        "noise added, 10 %",
        "network",
        WORSE,
        spoil=lambda x, r: (
            x
            + 0.1
            * _bright(x)
            * torch.from_numpy(
                r.standard_normal((*x.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
            )
        ),
    ),
    Case(
        "ghost of 10 % half a field of view off",
        "network",
        REFUSE,
        spoil=lambda x, r: x + 0.1 * x.roll(x.shape[0] // 2, 0),
    ),
    Case("weights wrong by 5 %", "network", WORSE, engine=_weights(0.05)),
    Case("weights wrong by 30 %", "network", WORSE, engine=_weights(0.3)),
    Case("last denoiser x 1.5", "network", WORSE, engine=_denoiser(1.5)),
    Case("last denoiser x 0", "network", WORSE, engine=_denoiser(0.0)),
    Case("noise scan 10 times too quiet", "data", WORSE, scan=_noise_scan(0.1)),
    Case("noise scan 10 times too loud", "data", WORSE, scan=_noise_scan(10.0)),
    Case("3 pairs of lines swapped", "data", MARK, scan=_samples(_swapped)),
    Case("3 lines empty", "data", MARK, scan=_samples(_dropped)),
    Case("3 lines twice", "data", MARK, scan=_samples(_duplicated)),
    Case("coils in another order", "data", MARK, scan=_foreign_maps),
    Case("3 spikes", "data", MARK, scan=_samples(_spikes)),
    Case("phases of lines wrong by 0.5 rad", "data", MARK, scan=_samples(_phases)),
    Case("motion by 4 pixels", "data", MARK, scan=_samples(_motion)),
    Case("samples clipped at 10 %", "data", MARK, scan=_samples(_clipped)),
    Case("every other line reversed", "data", MARK, scan=_samples(_flipped)),
    Case("noise alone", "unusual", WORSE, scan=_noise_only),
    Case("noise of 30 %", "unusual", WORSE, scan=_louder),
    Case("checkerboard", "unusual", WORSE, scan=_image(_checkerboard)),
    Case("letters", "unusual", WORSE, scan=_image(_letters)),
    Case("R = 12", "unusual", WORSE, scan=_far(12)),
    Case("R = 1", "unusual", WORSE, scan=_whole),
    Case("one coil 1000 times", "scale", WORSE, scan=_loud_coil),
    *(
        Case(f"all x {factor:g}", "scale", WORSE, scan=_scaled(factor, noise=True))
        for factor in (1e-30, 1e-12, 1e12, 1e30)
    ),
    *(
        Case(
            f"data x {factor:g}, noise scan not", "scale", WORSE, scan=_scaled(factor, noise=False)
        )
        for factor in (1e-30, 1e-6, 1e6, 1e30)
    ),
)
