"""Receive-coil sensitivities of a loop array around the head, from the Biot-Savart law."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SEGMENTS = 24


def loop_coil_maps(
    n_coils: int,
    shape: tuple[int, int],
    fov_mm: tuple[float, float] = (240.0, 240.0),
    *,
    slice_offset_mm: float = 0.0,
    rng: np.random.Generator | None = None,
    array_radius_mm: float | None = None,
    loop_radius_mm: float | None = None,
    normalize: bool = False,
    grid: int = 40,
) -> NDArray[np.complex64]:
    """Sensitivities of circular loops that stand around the field of view.

    The transverse receive field of a loop is ``Bx - i By``, with B by the Biot-Savart
    law summed over straight segments (Jackson, Classical Electrodynamics, section 5.2).
    By reciprocity (Hoult and Richards, J Magn Reson 1976;24:71) that is the coil's
    sensitivity. The main field points along the slice normal.

    Args:
        n_coils: Number of loops; more than eight are spread over two rings.
        shape: Matrix `y x`.
        fov_mm: Field of view (y, x) in millimetres.
        slice_offset_mm: Distance of the slice from the middle of the array, in millimetres.
        rng: Perturbs positions, sizes, gains and phases of the loops; none gives the ideal array.
        array_radius_mm: Distance of the loops from the centre; by default 0.62 x the field of view.
        loop_radius_mm: Radius of a loop; by default neighbours just overlap.
        grid: The field is computed on at most this many points an axis and interpolated.
        normalize: Scale so that the root of the sum of squares is one in every pixel.

    Returns:
        Sensitivities `coils y x`, complex64, in arbitrary units with a mean root sum
        of squares of one.

    Raises:
        ValueError: If a count, size or length is not positive.
    """
    if n_coils < 1 or min(shape) < 1 or min(fov_mm) <= 0:
        raise ValueError(
            f"expected at least one coil, a matrix and a field of view above zero; found "
            f"n_coils={n_coils}, shape={shape}, fov_mm={fov_mm}"
        )
    coarse = tuple(min(grid, max(n, 4)) for n in shape)
    y, x = (((np.arange(c) + 0.5) / c - 0.5) * fov for c, fov in zip(coarse, fov_mm, strict=True))
    points = np.stack(
        [
            np.broadcast_to(x[None, :], coarse),
            np.broadcast_to(y[:, None], coarse),
            np.full(coarse, slice_offset_mm),
        ],
        axis=-1,
    ).reshape(-1, 3)

    rings = 1 if n_coils <= 8 else 2
    per_ring = -(-n_coils // rings)
    radius = array_radius_mm or 0.62 * max(fov_mm)
    loop = loop_radius_mm or max(1.15 * np.pi * radius / max(per_ring, 4), 0.2 * radius)

    def jitter(scale: float) -> float:
        return float(rng.normal(0.0, scale)) if rng is not None else 0.0

    turn = float(rng.uniform(0, 2 * np.pi)) if rng is not None else 0.0
    aspect = float(rng.uniform(0.85, 1.15)) if rng is not None else 1.0
    maps = np.empty((n_coils, points.shape[0]), dtype=np.complex128)
    for coil in range(n_coils):
        ring, place = divmod(coil, per_ring)
        angle = turn + 2 * np.pi * (place + 0.5 * ring) / per_ring + jitter(0.08)
        inward = np.array([np.cos(angle), np.sin(angle), 0.0])
        height = 0.0 if rings == 1 else (ring - 0.5) * 1.4 * loop
        centre = np.array([radius * inward[0], aspect * radius * inward[1], height])
        centre *= 1.0 + jitter(0.06)
        field = _loop_field(points, centre, inward, loop * (1.0 + jitter(0.1)))
        gain = (1.0 + jitter(0.1)) * np.exp(1j * (jitter(1.5)))
        maps[coil] = gain * (field[:, 0] - 1j * field[:, 1])
    maps /= np.sqrt(np.mean(np.sum(np.abs(maps) ** 2, axis=0)))
    full = _resize(maps.reshape(n_coils, *coarse), shape)
    if normalize:
        full /= np.sqrt(np.sum(np.abs(full) ** 2, axis=0, keepdims=True))
    return full.astype(np.complex64)


def _loop_field(
    points: NDArray[np.float64],
    centre: NDArray[np.float64],
    normal: NDArray[np.float64],
    radius: float,
) -> NDArray[np.float64]:
    """Field `points xyz` of a unit current in one loop, up to a constant factor."""
    up = np.array([0.0, 0.0, 1.0])
    side = np.cross(up, normal)
    side /= np.linalg.norm(side)
    phi = 2 * np.pi * (np.arange(_SEGMENTS) + 0.5) / _SEGMENTS
    wire = centre + radius * (np.cos(phi)[:, None] * side + np.sin(phi)[:, None] * up)
    current = radius * (-np.sin(phi)[:, None] * side + np.cos(phi)[:, None] * up)
    away = points[:, None, :] - wire[None, :, :]
    # a wire has a thickness: without it a pixel on the wire would be infinite
    distance = np.sqrt(np.sum(away**2, axis=-1) + (0.15 * radius) ** 2)
    field: NDArray[np.float64] = np.sum(
        np.cross(current[None, :, :], away) / distance[..., None] ** 3, axis=1
    )
    return field


def _resize(maps: NDArray[np.complex128], shape: tuple[int, int]) -> NDArray[np.complex128]:
    """Cubic interpolation `coils y x` of smooth maps onto another matrix over the same field."""
    weights = [_cubic_weights(old, new) for old, new in zip(maps.shape[1:], shape, strict=True)]
    out: NDArray[np.complex128] = weights[0] @ maps @ weights[1].T
    return out


def _cubic_weights(old: int, new: int) -> NDArray[np.float64]:
    """Matrix `new old` of Keys' cubic convolution (IEEE Trans ASSP 1981;29:1153)."""
    position = (np.arange(new) + 0.5) * old / new - 0.5
    base = np.floor(position).astype(int)
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        d = np.abs(position - (base + tap))
        near = (1.5 * d - 2.5) * d**2 + 1.0
        far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
        value = np.where(d <= 1, near, np.where(d < 2, far, 0.0))
        index = base + tap
        # linear continuation past the edge keeps the slope of the maps
        low, high = index < 0, index >= old
        rows = np.arange(new)
        inside = ~(low | high)
        np.add.at(weights, (rows[inside], index[inside]), value[inside])
        for outside, edge, inner in ((low, 0, 1), (high, old - 1, old - 2)):
            r = rows[outside]
            steps = np.abs(index[outside] - edge)
            np.add.at(weights, (r, np.full(r.size, edge)), value[outside] * (1 + steps))
            np.add.at(weights, (r, np.full(r.size, inner)), -value[outside] * steps)
    return weights
