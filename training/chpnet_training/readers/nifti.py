"""NIfTI volumes, cut into axial, coronal or sagittal slices."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from chpnet_stream.errors import InputError
from chpnet_training.readers.image import SkipCounter, SourceImage, scale_volume

Orientation = Literal["axial", "coronal", "sagittal"]

# In RAS+ voxel order: the axis that is cut, then the axes that become image rows and columns.
_AXES: dict[str, tuple[int, int, int]] = {
    "axial": (2, 1, 0),
    "coronal": (1, 2, 0),
    "sagittal": (0, 2, 1),
}


def read_nifti(
    path: Path,
    *,
    orientations: Sequence[Orientation] | None = None,
    minimum_filled: float = 0.1,
    step: int = 1,
    skipped: SkipCounter | None = None,
) -> Iterator[SourceImage]:
    """Yields the slices of a NIfTI volume, anterior or superior side up.

    The volume is turned to RAS+ by its affine and scaled once by its maximum; of a 4-D file every
    volume is read and scaled on its own. A slice is skipped (and counted) when less than
    ``minimum_filled`` of its pixels exceed 10 % of the volume's 99th percentile.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        orientations: the directions in which the volume is cut; by default all of an isotropic
            volume, of thick slices the one they were measured in (`square_orientations`).
        minimum_filled: least fraction of pixels with signal.
        step: every how manieth slice is taken.
        skipped: counts what was left out and why.

    Raises:
        InputError: if the file is no NIfTI, not 3-D or 4-D or in colour, or an orientation is
            unknown.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.orientations import OrientationError
    from nibabel.spatialimages import HeaderDataError

    faults = (
        OSError, EOFError, ValueError, MemoryError, zlib.error,
        ImageFileError, HeaderDataError, OrientationError,
    )  # fmt: skip

    unknown = [name for name in orientations or () if name not in _AXES]
    if unknown:
        raise InputError(f"unknown orientation {unknown[0]!r}; expected one of {sorted(_AXES)}.")
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))
        data = np.asarray(image.dataobj)
    except faults as error:
        raise InputError(
            f"{path}: not a readable NIfTI file ({error}). Expected .nii or .nii.gz."
        ) from error
    if data.ndim not in {3, 4}:
        raise InputError(f"{path}: found shape {data.shape}; expected a 3-D or 4-D volume.")
    if data.dtype.kind not in "buifc":
        raise InputError(
            f"{path}: found colours ({data.dtype}); expected intensities. Leave out this volume."
        )
    zooms = [float(size) for size in image.header.get_zooms()[:3]]
    name = path.name.split(".nii")[0]
    volumes = data[..., np.newaxis] if data.ndim == 3 else data
    skipped = SkipCounter() if skipped is None else skipped
    chosen = orientations or square_orientations(zooms, data.shape)
    for index in range(volumes.shape[3]):
        volume = scale_volume(volumes[..., index], f"{path}[{index}]")
        threshold = 0.1 * np.percentile(volume, 99)
        for orientation in chosen:
            cut, rows, columns = _AXES[orientation]
            slices = volume.transpose(cut, rows, columns)[:, ::-1, :]
            for number in range(0, slices.shape[0], step):
                origin = f"{path.name}[{index}] {orientation} {number}"
                if float(np.mean(slices[number] > threshold)) < minimum_filled:
                    skipped.skip("nearly empty slice", origin)
                    continue
                yield SourceImage(
                    np.ascontiguousarray(slices[number]),
                    subject=name,
                    origin=origin,
                    pixel_size_mm=(zooms[rows], zooms[columns]),
                )


def square_orientations(
    zooms: Sequence[float], shape: Sequence[int], *, ratio: float = 1.5, least: int = 64
) -> tuple[Orientation, ...]:
    """Returns the orientations whose slices are whole pictures; at least the best of them.

    Args:
        zooms: voxel size along right, anterior and superior.
        shape: voxels along the same.
        ratio: largest ratio of a pixel's sides.
        least: fewest pixels of a slice's shorter side.
    """

    def badness(name: str) -> tuple[bool, float]:
        _, rows, columns = _AXES[name]
        sides = sorted((zooms[rows], zooms[columns]))
        return min(shape[rows], shape[columns]) < least, sides[1] / max(sides[0], 1e-6)

    names: tuple[Orientation, ...] = get_args(Orientation)
    whole = tuple(name for name in names if badness(name) <= (False, ratio))
    return whole or (min(names, key=badness),)
