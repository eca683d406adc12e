"""The file of training data: written image by image, whole at its final name or not at all.

HDF5, `FORMAT` in the attribute ``format``. Images are one padded array with one compressed chunk
each, so that one is read without its neighbours; raw slices lie beside them. SHA-256 of every image
and raw slice are columns of the table; the attribute ``checksum`` covers the table and the
manifest, and through those columns everything.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from chpnet_stream.errors import InputError, OutputError, OutputExistsError
from chpnet_stream.mrd.hdf5_disk import Hdf5Disk
from chpnet_stream.whole_file import hidden_name

logger = logging.getLogger(__name__)

FORMAT = "chpnet training data 1"

COMPRESSION: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
"""Of the images: 9 % smaller than LZF; 3 ms to write one of 320 x 320, 1 ms to open and read it."""


@dataclass(frozen=True)
class Columns:
    """What is known of each image; all of length n.

    Attributes:
        shapes: int32 `n 2`, rows and columns.
        weights: float64 `n`, how often each is to be drawn (not normalised).
        split: "train", "val" or "test"; a subject is in one of them only.
        subjects: whom it shows; hashed where it is a patient's identifier.
        origins: the file and slice.
        pixel_size_mm: float32 `n 2`, along y and x before the image was reduced; NaN if unknown.
        raw: bool `n`, whether there is k-space.
        image_sha256: uint8 `n 32`, of the stored pixels.
        kspace_sha256: uint8 `n 32`, of the stored k-space; zeros where there is none.
    """

    shapes: np.ndarray
    weights: np.ndarray
    split: np.ndarray
    subjects: np.ndarray
    origins: np.ndarray
    pixel_size_mm: np.ndarray
    raw: np.ndarray
    image_sha256: np.ndarray
    kspace_sha256: np.ndarray

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) != 1:
            raise InputError(f"columns of lengths {lengths}; expected equal lengths")

    def checksum(self, manifest: str) -> str:
        """SHA-256 over all columns and the manifest's text, in hexadecimal digits."""
        total = hashlib.sha256(manifest.encode())
        for field in fields(self):
            column = getattr(self, field.name)
            total.update(field.name.encode())
            if column.dtype.kind in "UOS":
                total.update(json.dumps([str(entry) for entry in column]).encode())
            else:
                total.update(np.ascontiguousarray(column).tobytes())
        return total.hexdigest()


_being_written: set[Path] = set()
"""By this process, whose locks are no concern of its own."""


def lock(file: IO[bytes]) -> bool:
    """Lock an open file until this process closes it; False where another process has it.

    By POSIX: `flock` is what HDF5 locks its files with.
    """
    try:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # not on Windows, nor on every network drive
        return False
    return True


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of a file have left beside it, and tell so.

    What is being written is locked, and stays.
    """
    hidden = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    for part in [p for p in path.parent.iterdir() if hidden.fullmatch(p.name)]:
        if part in _being_written:
            continue
        with suppress(OSError), part.open("rb+") as file:
            if lock(file):
                size = part.stat().st_size
                part.unlink()
                logger.warning(
                    "removed %s (%.1f MB), left by a process that was killed", part, size / 1e6
                )


def digest(array: np.ndarray) -> np.ndarray:
    """SHA-256 of an array's samples, uint8 `32`."""
    found = hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()
    return np.frombuffer(found, dtype=np.uint8)


class BankWriter:
    """Writes a file of training data; a context manager, of which `finish` is the last call.

    Without `finish` nothing appears at the final name. What a killed process has left beside it is
    removed.

    Args:
        path: The file.
        maximum_side: Most rows and columns of an image.
        overwrite: Replace an existing file.

    Raises:
        OutputExistsError: If the file is there already.
        OutputError: If it can't be written.
    """

    def __init__(self, path: Path, maximum_side: int, *, overwrite: bool = False) -> None:
        if path.is_dir():
            raise OutputError(f"{path} is a folder; expected the name of a file, as data.h5")
        if path.exists() and not overwrite:
            raise OutputExistsError(f"{path} exists; give --overwrite to replace it")
        self.path = path
        self._part = hidden_name(path)
        self._side = maximum_side
        self._disk: Hdf5Disk | None = None
        self._file: Any = None
        self._claim: IO[bytes] | None = None
        self._shapes: list[tuple[int, ...]] = []
        self._raw: list[bool] = []
        self._digests: list[tuple[np.ndarray, np.ndarray]] = []

    def __enter__(self) -> BankWriter:
        import h5py

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.path)
            _being_written.add(self._part)
            self._disk = Hdf5Disk(self._part)
            self._claim = self._part.open("rb+")
            lock(self._claim)
        except OSError as error:
            self._drop()
            raise OutputError(f"can't write {self.path}: {error.strerror or error}") from error
        self._file = h5py.File(self._disk, "w", libver="latest")
        side = self._side
        self._images = self._file.create_dataset(
            "images", (0, side, side), "u2", maxshape=(None, side, side), chunks=(1, side, side),
            **COMPRESSION,
        )  # fmt: skip
        self._kspace = self._file.create_group("kspace")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for opened in (self._file, self._disk):
            if opened is not None:
                opened.close()
        self._drop()

    def _drop(self) -> None:
        """Remove the hidden file, if it has not become the final one, and its lock."""
        with suppress(OSError):
            self._part.unlink()
        if self._claim is not None:
            self._claim.close()
        _being_written.discard(self._part)

    def add(self, image: np.ndarray, kspace: np.ndarray | None = None) -> None:
        """Append one image.

        Args:
            image: Magnitude `y x` in 0..1; kept as uint16.
            kspace: complex64 `coils ky kx`, or None.

        Raises:
            OutputError: If the file can't take it.
        """
        pixels = np.round(np.clip(image, 0, 1) * 65535).astype(np.uint16)
        number, (height, width) = len(self._shapes), pixels.shape
        measured = np.zeros(32, dtype=np.uint8)
        try:
            self._images.resize(number + 1, axis=0)
            self._images[number, :height, :width] = pixels
            if kspace is not None:
                stored = np.ascontiguousarray(kspace, dtype=np.complex64)
                measured = digest(stored)
                # one chunk a coil; gzip would save 14 % and take 100 times as long
                self._kspace.create_dataset(str(number), data=stored, chunks=(1, *stored.shape[1:]))
            self._check_disk()
        except OSError as error:
            raise OutputError(f"can't write {self.path}: {error.strerror or error}") from error
        self._shapes.append(pixels.shape)
        self._raw.append(kspace is not None)
        self._digests.append((digest(pixels), measured))

    def finish(
        self,
        *,
        weights: np.ndarray,
        split: np.ndarray,
        subjects: np.ndarray,
        origins: np.ndarray,
        pixel_size_mm: np.ndarray | None = None,
        manifest: Mapping[str, Any],
    ) -> None:
        """Write the table and the manifest, and give the file its name.

        Args:
            weights: See `Columns`, as the others.
            split: Strings.
            subjects: Strings.
            origins: Strings.
            pixel_size_mm: Unknown where left out.
            manifest: What JSON can hold.

        Raises:
            InputError: If there are not as many rows as images.
            OutputError: If the file can't be written.
        """
        import h5py

        n = len(self._shapes)
        unknown = np.full((n, 2), np.nan, dtype=np.float32)
        columns = Columns(
            np.array(self._shapes, dtype=np.int32).reshape(n, 2),
            np.asarray(weights, dtype=np.float64),
            np.asarray(split, dtype=object),
            np.asarray(subjects, dtype=object),
            np.asarray(origins, dtype=object),
            unknown if pixel_size_mm is None else np.asarray(pixel_size_mm, dtype=np.float32),
            np.array(self._raw, dtype=bool),
            np.array([pair[0] for pair in self._digests], dtype=np.uint8).reshape(n, 32),
            np.array([pair[1] for pair in self._digests], dtype=np.uint8).reshape(n, 32),
        )
        text = json.dumps(manifest, allow_nan=False)
        try:
            table = self._file.create_group("table")
            for field in fields(columns):
                column = getattr(columns, field.name)
                kind = h5py.string_dtype() if column.dtype == object else column.dtype
                table.create_dataset(field.name, data=column, dtype=kind)
            self._file.attrs["format"] = FORMAT
            self._file.attrs["manifest"] = text
            self._file.attrs["checksum"] = columns.checksum(text)
            self._file.close()
            self._check_disk()
            self._part.replace(self.path)
            self._drop()  # readers find no lock
        except OSError as error:
            raise OutputError(f"can't write {self.path}: {error.strerror or error}") from error

    def _check_disk(self) -> None:
        if self._disk is not None:
            self._disk.check()
