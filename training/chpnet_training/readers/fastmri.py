"""fastMRI HDF5 files: their reference reconstructions, and the k-space of multi-coil ones.

Layout (Zbontar et al., arXiv:1811.08839): ``reconstruction_rss`` `slices y x`, in single-coil files
``reconstruction_esc`` as well; ``kspace`` `slices [coils] kx ky`, the readout before the phase
encoding; ``ismrmrd_header``; attribute ``patient_id``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chpnet_stream.errors import HeaderError, InputError
from chpnet_training.readers.image import SkipCounter, SourceImage, scale_volume
from chpnet_training.readers.raw import measured_block, virtual_coils

if TYPE_CHECKING:
    from chpnet_stream.mrd.header import Encoding

RECONSTRUCTIONS = ("reconstruction_rss", "reconstruction_esc")


def read_fastmri(
    path: Path, *, kspace: bool = True, skipped: SkipCounter | None = None
) -> Iterator[SourceImage]:
    """Yields the slices of the file's reference reconstruction, scaled by the volume's maximum.

    Multi-coil files also give their k-space (that of single-coil files is emulated, and left
    alone): lines that are empty at the edges of the matrix taken off, readout oversampling removed,
    in units of the noise (estimated from the first slice: the files have no noise scan), in virtual
    coils. Where lines are missing on one side only (partial Fourier) the magnitude comes alone, and
    ``skipped`` counts it.

    Args:
        path: the file.
        kspace: whether to hand on the k-space.
        skipped: counts the k-space that was left out.

    Raises:
        InputError: if the file is not HDF5, is damaged, or holds no reconstruction (as fastMRI's
            test sets).
    """
    skipped = SkipCounter() if skipped is None else skipped
    with _opened(path) as file:
        name = next((name for name in RECONSTRUCTIONS if name in file), None)
        if name is None:
            raise InputError(
                f"{path}: found {sorted(file)}; expected {' or '.join(RECONSTRUCTIONS)}. "
                "Files of the fastMRI test sets have none: use the training or validation files."
            )
        data = np.asarray(file[name])
        if data.ndim != 3:
            raise InputError(f"{path}: {name} of shape {data.shape}; expected `slices y x`.")
        patient = _text(file.attrs.get("patient_id", "")).strip()
        encoding = _encoding(file, path)
        raw = _Raw(path, file["kspace"], encoding) if kspace and _has_coils(file) else None
        for number, magnitude in enumerate(scale_volume(data, f"{path}:{name}")):
            origin = f"{path.name} {name} {number}"
            measured = raw.slice(number) if raw is not None else None
            if raw is not None and measured is None:
                skipped.skip("k-space that is not complete", origin)
            yield SourceImage(
                magnitude,
                patient or path.stem,
                origin,
                _pixel_size(encoding),
                private=bool(patient),
                kspace=measured,
            )


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
        _check_axes(path, kspace)
        for number in range(kspace.shape[0]):
            yield _coils(kspace, number)


class _Raw:
    """The k-space of a multi-coil volume, slice by slice and on one scale."""

    def __init__(self, path: Path, kspace: Any, encoding: Encoding | None) -> None:
        self.path, self.kspace, self.encoding = path, kspace, encoding
        self.level: float | None = None
        _check_axes(path, kspace)

    def slice(self, number: int) -> np.ndarray | None:
        """complex64 `virtual ky kx`; None where it is not complete."""
        from chpnet_stream.scan.readout import remove_oversampling

        if number >= len(self.kspace) or "mask" in self.kspace.parent:
            return None
        data = _coils(self.kspace, number)
        if not np.isfinite(data).all():
            raise InputError(
                f"{self.path}: k-space of slice {number} is not finite; leave out this volume"
            )
        lines = measured_block(np.asarray(data.any(axis=(0, 2))))
        if lines is None:
            return None
        data = np.ascontiguousarray(data[:, lines])
        if self.level is None:
            self.level = _noise_level(data)
        width = data.shape[-1]
        if self.encoding is not None and self.encoding.encoded.matrix[0] == width:
            data = remove_oversampling(data, self.encoding.cropped(0))
        return virtual_coils(data / np.float32(self.level))


def _has_coils(file: Any) -> bool:
    """Whether there is k-space as coils measured it: that of single-coil files is a mixture."""
    return getattr(file.get("kspace"), "ndim", 3) != 3


def _noise_level(kspace: np.ndarray) -> float:
    """Standard deviation of a complex sample, the same for all coils, as `CoilCalibration` has."""
    import torch

    from chpnet_stream.calibrate import LEAST_NOISE
    from chpnet_stream.physics.noise_level import estimate_noise

    levels = estimate_noise(torch.from_numpy(kspace), torch.ones(kspace.shape[1]))
    levels = levels[levels > 0]
    level = float(levels.square().mean().sqrt()) if len(levels) else 0.0
    return max(level, LEAST_NOISE * float(np.abs(kspace).max()))


def _coils(kspace: Any, number: int) -> np.ndarray:
    one = np.asarray(kspace[number], dtype=np.complex64)
    coils = one[np.newaxis] if one.ndim == 2 else one
    return np.ascontiguousarray(coils.swapaxes(-1, -2))


def _check_axes(path: Path, kspace: Any) -> None:
    if kspace.ndim not in {3, 4}:
        raise InputError(
            f"{path}: kspace of shape {kspace.shape}; expected `slices [coils] kx ky`."
        )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens an HDF5 file; what it is not becomes an `InputError`."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a readable HDF5 file ({error}). Check the path.") from error


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _encoding(file: Any, path: Path) -> Encoding | None:
    """The first encoding of the ISMRMRD header, None without a header."""
    from chpnet_stream.mrd.header import ScanHeader

    if "ismrmrd_header" not in file:
        return None
    try:
        return ScanHeader.from_xml(file["ismrmrd_header"][()]).encodings[0]
    except (HeaderError, TypeError) as error:
        raise InputError(f"{path}: ismrmrd_header is no ISMRMRD header ({error}).") from error


def _pixel_size(encoding: Encoding | None) -> tuple[float, float] | None:
    """Reconstructed pixel along y and x in mm: the stored images have readout rows."""
    if encoding is None:
        return None
    field, matrix = encoding.recon.field_of_view_mm, encoding.recon.matrix
    if min(*field[:2], *matrix[:2]) <= 0:
        return None
    return field[0] / matrix[0], field[1] / matrix[1]
