"""A three-dimensional head made of formulas: sharp at any resolution, cut in any plane."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chpnet_stream.simulation.tissues import Tissue, Weighting, tissue_signals

Array = NDArray[np.floating[Any]]
Points = tuple[Array, Array, Array]

_WAVES = 72


class HeadPhantom:
    """A head of nested ellipsoids with folded cortex, ventricles, vessels, lesions and eyes.

    The idea of ellipsoids is that of Shepp and Logan (IEEE Trans Nucl Sci 1974;21:21). The cortical
    folds are the zero lines of a band-limited random field whose waves run along the surface, so
    that neighbouring slices belong together. Coordinates are LPS in mm (x to the left, y to the
    back, z to the top); the origin is the middle of the head.

    Args:
        seed: Chooses the folds, vessels and lesions; the same seed gives the same head.
    """

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._folds = _Field(rng, wavelength_mm=(14.0, 21.0))
        self._shape = _Field(rng, wavelength_mm=(40.0, 90.0))
        self._texture = _Field(rng, wavelength_mm=(6.0, 40.0))
        self._lesions = _lesions(rng)
        self._vessels = _vessels(rng)

    def labels(self, points: Points) -> NDArray[np.uint8]:
        """Tissue at every point.

        Args:
            points: x, y and z in mm (LPS), arrays of one shape.

        Returns:
            Values of `Tissue`, in the shape of the points.
        """
        x, y, z = (np.asarray(axis, dtype=np.float32) for axis in points)
        out = np.zeros(x.shape, dtype=np.uint8)
        wobble = self._shape(x, y, z)

        outer = _depth(x, y, z, (77.0, 97.0, 112.0)) + 0.8 * wobble
        _paint(out, Tissue.SKIN, outer > 0)
        _paint(out, Tissue.FAT, outer > 1.6)
        temporal = _inside(np.abs(x) - 65, y + 22, z + 25, (11.0, 30.0, 42.0)) > 0
        _paint(out, Tissue.MUSCLE, (outer > 3.5) & temporal)
        scalp = 5.0 + 0.5 * wobble + 1.5 * np.clip((y - 60) / 30, 0, 1)
        _paint(out, Tissue.BONE, outer > scalp)
        marrow = (outer > scalp + 1.8) & (outer < scalp + 4.2 + 0.5 * wobble)
        _paint(out, Tissue.MARROW, marrow & ~temporal)
        _paint(out, Tissue.DURA, outer > scalp + 6.6)
        _paint(out, Tissue.CSF, outer > scalp + 7.6)

        brain = outer - scalp - 9.4
        inside = brain > -2.0
        if inside.any():
            parts = (x[inside], y[inside], z[inside])
            out[inside] = self._brain(parts, brain[inside], wobble[inside], out[inside])
        self._eyes(x, y, z, out)
        return out

    def image(
        self, points: Points, weighting: Weighting = "t1", echo_time_ms: float | None = None
    ) -> NDArray[np.float32]:
        """Magnitude of the magnetisation at every point, without receive coils.

        Args:
            points: x, y and z in mm (LPS), arrays of one shape.
            weighting: `t1` or `t2`.
            echo_time_ms: Echo time; by default that of the weighting.

        Returns:
            Signal, float32, from 0 to about 1, in the shape of the points.
        """
        signal = tissue_signals(weighting, echo_time_ms)[self.labels(points)]
        x, y, z = (np.asarray(axis, dtype=np.float32) for axis in points)
        signal *= 1 + 0.02 * self._texture(x, y, z)
        return signal

    def _brain(
        self,
        points: Points,
        depth: Array,
        wobble: Array,
        out: NDArray[np.uint8],
    ) -> NDArray[np.uint8]:
        """Labels of points inside the dura: cortex, white matter and what lies in it."""
        x, y, z = points
        # Waves that run along the surface: the nearer the centre, the more they are stretched.
        radius = np.sqrt((x / 60) ** 2 + (y / 78) ** 2 + (z / 90) ** 2) + 0.05
        stretch = radius**-0.55
        fold = self._folds(x * stretch, y * stretch, z * stretch) + 0.12 * wobble
        midline = np.abs(x + 0.6 * wobble)
        callosum = _inside(x, y - 2, z - 14, (27.0, 38.0, 14.0)) > 0
        fissure = np.where(callosum, 99.0, midline)
        deep = np.minimum(depth, 1.3 * fissure)  # below the outer or the inner face
        reach = 21.0 + 5.0 * self._texture(x, y, z)
        sulcus_fade = np.sqrt(np.clip((reach - deep) / 9, 0, 1))
        ribbon_fade = np.sqrt(np.clip((reach + 3.5 - deep) / 9, 0, 1))
        sulcus = np.abs(fold) < (0.28 - 0.008 * deep) * sulcus_fade
        ribbon = np.abs(fold) < 0.80 * ribbon_fade
        cortex = (depth < 2.8) | ribbon | (fissure < 3.8)

        # Insula: a fold on each side that reaches deep.
        sylvian = np.abs(y + 8 - 0.5 * z + 3 * np.sin(x / 7) + 2 * wobble)
        sylvian = np.where((np.abs(x) > 36) & (np.abs(z - 2) < 26), sylvian, 99.0)

        _paint(out, Tissue.WHITE, depth > 0)
        _paint(out, Tissue.GREY, (depth > 0) & (cortex | (sylvian < 4.4)))
        csf = sulcus | (fissure < 0.9 + 0.4 * wobble) | (sylvian < 1.3)
        _paint(out, Tissue.CSF, (depth > 0) & csf)
        falx = (midline < 0.45) & ~callosum & (depth < 34) & (z > -20)
        _paint(out, Tissue.DURA, falx)

        self._deep_nuclei(x, y, z, wobble, out)
        self._cerebellum(x, y, z, fold, out)
        deep_white = out == Tissue.WHITE
        self._details(x, y, z, deep_white, out)
        return out

    def _deep_nuclei(
        self,
        x: Array,
        y: Array,
        z: Array,
        wobble: Array,
        out: NDArray[np.uint8],
    ) -> None:
        side = np.abs(x) * (1 + 0.02 * np.sign(x))
        bulge = 1.2 * wobble
        thalamus = (*_turned(side - 12, y - 8, 25), z - 4)
        _paint(out, Tissue.DEEP_GREY, _inside(*thalamus, (8.5 + bulge, 15.0, 11.0)) > 0)
        putamen = (*_turned(side - 26, y + 9, 14), z - 3)
        _paint(out, Tissue.DEEP_GREY, _inside(*putamen, (5.6 + bulge, 17.0, 12.0)) > 0)
        caudate = (*_turned(side - 12.5, y + 24, -18), z - 10)
        _paint(out, Tissue.DEEP_GREY, _inside(*caudate, (5.2 + bulge, 10.5, 14.0)) > 0)

        frontal = (*_turned(side - 6.8, y + 24, -22), z - 13)
        body = (*_turned(side - 8.5, y + 2, 10), z - 22)
        atrium = (*_turned(side - 22, y - 32, -28), z - 9)
        horn = (*_turned(side - 22, y - 48, 12), z - 6)
        third = (x, y - 2, z - 2)
        ventricle = (
            (_inside(*frontal, (4.3 + bulge, 14.0, 12.0)) > 0)
            | (_inside(*body, (5.0 + bulge, 30.0, 7.0)) > 0)
            | (_inside(*atrium, (5.6 + bulge, 15.0, 12.0)) > 0)
            | (_inside(*horn, (3.4, 12.0, 6.0)) > 0)
            | (_inside(*third, (1.9, 13.0, 9.0)) > 0)
        )
        septum = (np.abs(x) < 0.8) & (z > 8)
        _paint(out, Tissue.CSF, ventricle & ~septum)
        choroid = (*_turned(side - 21, y - 31, -28), z - 9)
        plexus = _inside(*choroid, (2.2 + 1.6 * bulge, 8.0, 6.0)) > 0
        _paint(out, Tissue.CHOROID, plexus & ventricle)

    def _cerebellum(
        self,
        x: Array,
        y: Array,
        z: Array,
        fold: Array,
        out: NDArray[np.uint8],
    ) -> None:
        """Below z = -20 mm: cerebellum with its fine leaves, brain stem, fourth ventricle."""
        lobe = _inside(np.abs(x) - 22, y - 46, z + 48, (27.0, 27.0, 28.0))
        _paint(out, Tissue.CSF, lobe > -2.0)
        leaf = np.sin(np.hypot(np.abs(x) - 8, (y - 30) * 1.1) * (2 * np.pi / 4.6) + 2.5 * fold)
        _paint(out, Tissue.GREY, lobe > 0)
        _paint(out, Tissue.WHITE, (lobe > 2.5) & (leaf > 0.25 + 0.9 * np.exp(-lobe / 5)))
        _paint(out, Tissue.CSF, (lobe > 0) & (leaf < -0.9) & (lobe < 14))
        stem = _inside(x, y - 10, z + 45, (15.0, 14.0, 36.0))
        _paint(out, Tissue.CSF, (stem > -3) & (z < -14))
        _paint(out, Tissue.WHITE, (stem > 0) & (z < -12))
        _paint(out, Tissue.CSF, _inside(x, y - 27, z + 42, (6.0, 5.0, 14.0)) > 0)

    def _details(
        self,
        x: Array,
        y: Array,
        z: Array,
        white: NDArray[np.bool_],
        out: NDArray[np.uint8],
    ) -> None:
        """Lesions, a tumour with a rim, vessels, and combs of lines of known spacing."""
        for cx, cy, cz, rx, ry, rz in self._lesions:
            _paint(out, Tissue.LESION, white & (_inside(x - cx, y - cy, z - cz, (rx, ry, rz)) > 0))
        tumour = _inside(x + 30, y - 26, z - 30, (9.5, 11.0, 10.0))
        swelling = _inside(x + 32, y - 27, z - 30, (15.0, 18.0, 15.0)) > 0
        _paint(out, Tissue.LESION, white & swelling)
        _paint(out, Tissue.TUMOUR, tumour > 0)
        _paint(out, Tissue.LESION, tumour > 2.2)
        outside = ~white
        for cx, cy, radius, slope_x, slope_y in self._vessels:
            away = np.hypot(x - cx - slope_x * z, y - cy - slope_y * z)
            _paint(out, Tissue.VESSEL, outside & (away < radius))
        # Perivascular spaces in the centrum semiovale: four lines each, 1.2 to 2.4 mm apart.
        for number, pitch in enumerate((1.2, 1.6, 2.0, 2.4)):
            u, v = x - 23.0, y + 26.0 - 15.0 * number
            comb = (np.abs(u) < 6) & (np.abs(v) < 2 * pitch) & (np.abs(z - 34) < 11)
            _paint(out, Tissue.CSF, white & comb & (np.mod(v, pitch) < pitch / 2))

    def _eyes(
        self,
        x: Array,
        y: Array,
        z: Array,
        out: NDArray[np.uint8],
    ) -> None:
        if z.size == 0 or z.min() > -20 or z.max() < -60:
            return
        side = np.abs(x) - 31
        orbit = _inside(side, y + 64, z + 40, (19.0, 22.0, 17.0)) > 0
        head = out > Tissue.SKIN
        _paint(out, Tissue.FAT, orbit & head)
        nerve = np.abs(side + 0.35 * (y + 52)) < 2
        _paint(out, Tissue.WHITE, orbit & head & nerve & (y > -58) & (np.abs(z + 40) < 3))
        globe = _inside(side, y + 70, z + 40, (12.0, 12.5, 12.0))
        _paint(out, Tissue.DURA, globe > -1)
        _paint(out, Tissue.CSF, globe > 0)
        _paint(out, Tissue.LENS, _inside(side, y + 78, z + 40, (4.5, 2.2, 4.5)) > 0)
        sinus = _inside(x, y + 72, z + 42, (9.0, 22.0, 18.0)) > 0
        _paint(out, Tissue.AIR, sinus & head)


class _Field:
    """Sum of random plane waves with wavelengths in a band: zero mean, standard deviation one."""

    def __init__(self, rng: np.random.Generator, wavelength_mm: tuple[float, float]) -> None:
        direction = rng.normal(size=(_WAVES, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        wavelength = rng.uniform(*wavelength_mm, size=(_WAVES, 1))
        self._wave = (2 * np.pi * direction / wavelength).astype(np.float32)
        self._phase = rng.uniform(0, 2 * np.pi, _WAVES).astype(np.float32)

    def __call__(self, x: Array, y: Array, z: Array) -> Array:
        total = np.zeros(x.shape, dtype=np.float32)
        for (kx, ky, kz), phase in zip(self._wave, self._phase, strict=True):
            total += np.cos(kx * x + ky * y + kz * z + phase)
        return total * np.float32(np.sqrt(2 / _WAVES))


def _inside(
    x: Array,
    y: Array,
    z: Array,
    axes_mm: tuple[float | Array, float, float],
) -> Array:
    """Approximate distance in mm from the surface of an ellipsoid at the origin; inside is +."""
    a, b, c = (np.maximum(axis, 0.1) for axis in axes_mm)
    radius = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    return (1 - radius) * np.minimum(np.minimum(a, b), c)


def _depth(
    x: Array,
    y: Array,
    z: Array,
    axes_mm: tuple[float, float, float],
) -> Array:
    """Depth in mm below the skin of an egg that is narrower in front; first-order distance."""
    a, b, c = axes_mm
    width = a * (1 + 0.07 * np.clip(y / b, -1, 1))
    f = np.sqrt((x / width) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    slope = np.sqrt((x / width**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2) / np.maximum(f, 1e-3)
    return (1 - f) / np.maximum(slope, 1 / (2 * c))


def _turned(x: Array, y: Array, degrees: float) -> tuple[Array, Array]:
    """Coordinates in a frame that is turned about z."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return x * cos + y * sin, y * cos - x * sin


def _paint(out: NDArray[np.uint8], tissue: Tissue, where: NDArray[np.bool_]) -> None:
    out[where] = tissue


def _lesions(rng: np.random.Generator) -> list[tuple[float, ...]]:
    """Centres and half axes of small white-matter lesions near the ventricles, in mm."""
    found = []
    for _ in range(22):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 1.0)
        centre = (36 * reach * np.cos(angle), 48 * reach * np.sin(angle), rng.uniform(-5, 50))
        found.append((*centre, *rng.uniform(1.0, 3.4, size=3)))
    return found


def _vessels(rng: np.random.Generator) -> list[tuple[float, ...]]:
    """Vessels that rise between the folds: x, y at z = 0, radius (mm), slopes in x and y."""
    found = []
    for _ in range(40):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 0.98)
        centre = (58 * reach * np.cos(angle), 76 * reach * np.sin(angle))
        found.append((*centre, rng.uniform(0.4, 1.1), *rng.uniform(-0.3, 0.3, size=2)))
    return found
