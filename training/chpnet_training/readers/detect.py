"""What kind of training material a file is, by its content."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Literal, get_args

from chpnet_stream.errors import InputError

Kind = Literal["fastmri", "ismrmrd", "nifti", "dicom", "images"]
KINDS: tuple[str, ...] = get_args(Kind)

_EXPECTED: dict[str, str] = {
    ".png": "a PNG image",
    ".jpg": "a JPEG image",
    ".jpeg": "a JPEG image",
    ".npy": "a NumPy array",
    ".nii": "a NIfTI volume",
    ".gz": "a compressed NIfTI volume",
    ".dcm": "a DICOM file",
    ".ima": "a DICOM file",
    ".h5": "an HDF5 file",
    ".hdf5": "an HDF5 file",
    ".mrd": "an HDF5 file",
}
_HDF5 = b"\x89HDF\r\n\x1a\n"


def detect_kind(path: Path) -> str | None:
    """Returns the kind of a file (one of `KINDS`), None where it is of none of them.

    Raises:
        InputError: if it cannot be read, or its name promises what its content is not.
    """
    try:
        with path.open("rb") as file:
            head = file.read(352)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}).") from error
    suffix = path.suffix.lower()
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\x93NUMPY")):
        return "images"
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(_HDF5):
        return _hdf5_kind(path)
    if head.startswith(b"\x1f\x8b"):
        head = _unpacked(path, tell=path.name.lower().endswith(".nii.gz"))
    if head[344:348] == b"n+1\0" or head[4:8] == b"n+2\0":
        return "nifti"
    if suffix in {".dcm", ".ima"} and head[:1] in {b"\x08", b"\x02"}:
        return "dicom"  # of the time before the preamble
    if suffix in _EXPECTED and (suffix != ".gz" or path.name.lower().endswith(".nii.gz")):
        found = f"it begins with {head[:8]!r}" if head else "it is empty"
        raise InputError(
            f"{path}: named as {_EXPECTED[suffix]}, but {found}; "
            "replace or remove it, or give --skip-unreadable."
        )
    return None


def _hdf5_kind(path: Path) -> str | None:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if any(name in file for name in ("reconstruction_rss", "reconstruction_esc", "kspace")):
                # prepared files also have a group of k-space
                return None if "format" in file.attrs else "fastmri"
            groups = [item for item in file.values() if isinstance(item, h5py.Group)]
            return "ismrmrd" if any("xml" in group for group in groups) else None
    except (OSError, RuntimeError, KeyError) as error:
        raise InputError(
            f"{path}: HDF5, but cut off or damaged ({str(error).splitlines()[0]}); copy it again."
        ) from error


def _unpacked(path: Path, *, tell: bool) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(352)
    except (OSError, EOFError, zlib.error) as error:
        if not tell:
            return b""
        raise InputError(f"{path}: not readable as gzip ({error}); copy it again.") from error
