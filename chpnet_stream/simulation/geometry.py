"""Where the slices of a simulated scan lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chpnet_stream.simulation.options import SimulationOptions
from chpnet_stream.simulation.phantom import Points


@dataclass(frozen=True)
class SliceGeometry:
    """One slice: unit vectors and centre in LPS; columns run along read, rows along phase."""

    read: NDArray[np.float64]
    phase: NDArray[np.float64]
    normal: NDArray[np.float64]
    position_mm: NDArray[np.float64]
    offset_mm: float

    def points(
        self, shape: tuple[int, int], fov_mm: tuple[float, float], through_mm: float = 0.0
    ) -> Points:
        """Coordinates of the pixel centres; index n // 2 of an axis is the slice centre.

        Args:
            shape: Matrix `y x`.
            fov_mm: Field of view (y, x).
            through_mm: Distance from the slice's middle plane along its normal.

        Returns:
            x, y and z in mm (LPS), float32 `y x` each.
        """
        v, u = ((np.arange(n) - n // 2) * (fov / n) for n, fov in zip(shape, fov_mm, strict=True))
        centre = self.position_mm + through_mm * self.normal
        x, y, z = (
            (centre[i] + v[:, None] * self.phase[i] + u[None, :] * self.read[i]).astype(np.float32)
            for i in range(3)
        )
        return x, y, z


def slice_geometry(options: SimulationOptions, number: int) -> SliceGeometry:
    """Geometry of slice `number`: an axial stack, tilted as `options.tilt_deg` says."""
    frame = _turn(1, options.tilt_deg[1]) @ _turn(0, options.tilt_deg[0])
    frame = frame @ _turn(2, options.tilt_deg[2])
    offset = (number - (options.slices - 1) / 2) * (options.thickness_mm + options.gap_mm)
    read, phase, normal = frame.T
    position = np.asarray(options.centre_mm) + offset * normal
    return SliceGeometry(read, phase, normal, position, offset)


def _turn(axis: int, degrees: float) -> NDArray[np.float64]:
    """Right-handed rotation matrix about a coordinate axis."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    first, second = [i for i in range(3) if i != axis]
    sign = -1 if axis == 1 else 1
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cos
    matrix[first, second], matrix[second, first] = -sign * sin, sign * sin
    return matrix
