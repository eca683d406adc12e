"""fastMRI HDF5 files: their reference reconstructions, and their k-space for those who want it.

Layout (Zbontar et al., arXiv:1811.08839): ``reconstruction_esc`` (single-coil) or
``reconstruction_rss`` (multi-coil) `slices y x`; ``kspace`` `slices [coils] kx ky`, the readout
before the phase encoding; ``ismrmrd_header``; attribute ``patient_id``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from chpnet_stream.errors import InputError
from chpnet_training.readers.image import SourceImage, scale_volume

RECONSTRUCTIONS = ("reconstruction_rss", "reconstruction_esc")


def read_fastmri(path: Path) -> Iterator[SourceImage]:
    """Yields the slices of the file's reference reconstruction, scaled by the volume's maximum.

    Raises:
        InputError: if the file is not HDF5 or holds no reconstruction (as fastMRI's test sets).
    """
    with _opened(path) as file:
        name = next((name for name in RECONSTRUCTIONS if name in file), None)
        if name is None:
            raise InputError(
                f"{path}: found {sorted(file)}; expected {' or '.join(RECONSTRUCTIONS)}. "
                "Files of the fastMRI test sets have none: use the training or validation files."
            )
        data = np.asarray(file[name])
        subject = str(file.attrs.get("patient_id", path.stem))
        pixel = _pixel_size(file, path)
    if data.ndim != 3:
        raise InputError(f"{path}: {name} of shape {data.shape}; expected `slices y x`.")
    for number, magnitude in enumerate(scale_volume(data, f"{path}:{name}")):
        yield SourceImage(magnitude, subject, f"{path.name} {name} {number}", pixel)


def read_fastmri_kspace(path: Path) -> Iterator[np.ndarray]:
    """Yields the k-space of each slice, complex64 `coils ky kx` (one coil for single-coil files).

    The file's last two axes are exchanged, since it stores the readout first; readout oversampling
    is left as it is.

    Raises:
        InputError: if the file is not HDF5 or holds no k-space of 3 or 4 axes.
    """
    with _opened(path) as file:
        if "kspace" not in file:
            raise InputError(f"{path}: found {sorted(file)}; expected kspace.")
        kspace = file["kspace"]
        if kspace.ndim not in {3, 4}:
            raise InputError(
                f"{path}: kspace of shape {kspace.shape}; expected `slices [coils] kx ky`."
            )
        for number in range(kspace.shape[0]):
            one = np.asarray(kspace[number], dtype=np.complex64)
            coils = one[np.newaxis] if one.ndim == 2 else one
            yield np.ascontiguousarray(coils.swapaxes(-1, -2))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens an HDF5 file; what it is not becomes an `InputError`."""
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: not a readable HDF5 file ({error}). Check the path.") from error
    with file:
        yield file


def _pixel_size(file: Any, path: Path) -> tuple[float, float] | None:
    """Returns the reconstructed pixel along y and x in mm by the ISMRMRD header, None without."""
    if "ismrmrd_header" not in file:
        return None
    import ismrmrd

    text = file["ismrmrd_header"][()]
    try:
        space = ismrmrd.xsd.CreateFromDocument(text).encoding[0].reconSpace
    except (ValueError, IndexError, TypeError) as error:
        raise InputError(f"{path}: ismrmrd_header is no ISMRMRD header ({error}).") from error
    # The stored images have readout rows, so that y is the header's x.
    field, matrix = space.fieldOfView_mm, space.matrixSize
    return field.x / matrix.x, field.y / matrix.y
