"""Noise-free multi-coil k-space of one slice of the phantom, and the truth that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chpnet_stream.scan.readout import centred_fft, centred_ifft, crop_centre
from chpnet_stream.simulation.coils import loop_coil_maps
from chpnet_stream.simulation.geometry import SliceGeometry
from chpnet_stream.simulation.options import SimulationOptions
from chpnet_stream.simulation.phantom import HeadPhantom
from chpnet_stream.simulation.tissues import TIMING

ECHO_SPACING_MS = 3.0

_THROUGH = 3  # planes over the slice thickness
_FINE = 768  # pixels of the fine raster, at least, in each direction


@dataclass(frozen=True)
class SliceTruth:
    """One slice without noise.

    Attributes:
        kspace: complex64 `contrasts coils ky kx`, the full grid, readout oversampled; its centred
            orthonormal inverse transform is the coil images.
        images: float32 `contrasts y x`: root sum of squares of the coil images of the full matrix.
        coil_maps: complex64 `coils y x`: the receive sensitivities.
    """

    kspace: NDArray[np.complex64]
    images: NDArray[np.float32]
    coil_maps: NDArray[np.complex64]


def echo_times_ms(options: SimulationOptions) -> list[float]:
    """Echo time of every contrast."""
    first = TIMING[options.weighting][2]
    return [first + ECHO_SPACING_MS * echo for echo in range(options.contrasts)]


def simulate_slice(
    phantom: HeadPhantom, options: SimulationOptions, geometry: SliceGeometry
) -> SliceTruth:
    """Measures one slice without noise.

    The object is drawn on a raster several times finer than the image, over several planes of the
    slice, weighted by the coils, transformed, and cut down to the lines and samples that the scan
    measures. So the images have the Gibbs ringing and partial volumes of a real scan, and no
    reconstruction can be helped by using the same raster.

    Args:
        phantom: The head.
        options: The scan.
        geometry: The slice.

    Returns:
        k-space, images and coil maps.
    """
    rows, columns = options.matrix
    finer_y, finer_x = (min(max(-(-_FINE // n), 2), 4) for n in options.matrix)
    fine = (finer_y * rows, finer_x * columns)
    maps = loop_coil_maps(
        options.coils,
        fine,
        options.fov_mm,
        slice_offset_mm=geometry.offset_mm,
        rng=np.random.default_rng([options.seed, 1]),
    )
    objects = _objects(phantom, options, geometry, fine)
    kspace = np.stack(
        [measure_kspace(maps * plane, options.matrix, options.oversampling) for plane in objects]
    )
    images = np.stack([root_sum_of_squares(echo, options.matrix) for echo in kspace])
    first_y = fine[0] // 2 - finer_y * (rows // 2)
    first_x = fine[1] // 2 - finer_x * (columns // 2)
    coil_maps = np.ascontiguousarray(maps[:, first_y::finer_y, first_x::finer_x])
    return SliceTruth(kspace, images, coil_maps)


def root_sum_of_squares(
    kspace: NDArray[np.complex64], matrix: tuple[int, int]
) -> NDArray[np.float32]:
    """Coil-combined magnitude image of full k-space with an oversampled readout.

    Args:
        kspace: `coils ky kx`, the readout longer than the image by the oversampling.
        matrix: Image matrix (y, x).

    Returns:
        float32 `y x`.
    """
    images = crop_centre(centred_ifft(centred_ifft(kspace, axis=1), axis=2), matrix[1])
    return np.sqrt(np.sum(np.abs(images) ** 2, axis=0)).astype(np.float32)


def _objects(
    phantom: HeadPhantom,
    options: SimulationOptions,
    geometry: SliceGeometry,
    shape: tuple[int, int],
) -> NDArray[np.complex64]:
    """Transverse magnetisation of each echo on the fine raster, complex64 `contrasts y x`."""
    depths = (np.arange(_THROUGH) + 0.5) / _THROUGH - 0.5
    planes = [
        geometry.points(shape, options.fov_mm, options.thickness_mm * depth) for depth in depths
    ]
    rng = np.random.default_rng([options.seed, 2])
    out = []
    phase = _smooth_phase(rng, shape, geometry.offset_mm)
    drift = _smooth_phase(rng, shape, geometry.offset_mm)
    for echo, echo_time in enumerate(echo_times_ms(options)):
        magnitude = sum(phantom.image(p, options.weighting, echo_time) for p in planes) / _THROUGH
        out.append(magnitude * np.exp(1j * (phase + 0.4 * echo * drift)))
    return np.stack(out).astype(np.complex64)


def _smooth_phase(
    rng: np.random.Generator, shape: tuple[int, int], offset_mm: float
) -> NDArray[np.float64]:
    """Phase in radians that varies slowly over the field of view, a polynomial of third degree."""
    y, x = (((np.arange(n) - n // 2) / n * 2) for n in shape)
    z = offset_mm / 100
    weights = rng.normal(0.0, 0.55, size=(4, 4))
    phase = np.zeros(shape)
    for i in range(4):
        for j in range(4 - i):
            phase += weights[i, j] * (1 + 0.5 * z) * y[:, None] ** i * x[None, :] ** j
    return phase


def measure_kspace(
    coil_images: NDArray[np.complex64], matrix: tuple[int, int], oversampling: int
) -> NDArray[np.complex64]:
    """Centred orthonormal k-space of finely drawn coil images, cut to the scan's grid.

    Args:
        coil_images: `coils y x` on a raster finer than the matrix, of the same field of view.
        matrix: Image matrix (y, x).
        oversampling: Readout oversampling.

    Returns:
        complex64 `coils ky kx`; kx is longer than the matrix by the oversampling.
    """
    rows, columns = matrix
    fine_rows, fine_columns = coil_images.shape[1:]
    wide = fine_columns * oversampling
    left = wide // 2 - fine_columns // 2
    padding = ((0, 0), (left, wide - fine_columns - left))
    out = np.empty((coil_images.shape[0], rows, columns * oversampling), dtype=np.complex64)
    for coil, image in enumerate(coil_images):
        lines = crop_centre(centred_fft(image, axis=0), rows, axis=0)
        out[coil] = crop_centre(centred_fft(np.pad(lines, padding)), out.shape[2])
    # Each of the orthonormal transforms was over more pixels than the image has.
    out *= np.float32(np.sqrt(rows * columns / (fine_rows * fine_columns)))
    return out
