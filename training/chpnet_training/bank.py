"""Training images on disk, read one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from chpnet_stream.errors import InputError
from chpnet_training.identity import Identity
from chpnet_training.store import FORMAT, Columns, digest

AGAIN = "make it again with `chpnet-train prepare`"


class SourceBank:
    """The images of a file of training data, and for some of them the k-space they are from.

    Only the table is in memory. The file is opened for every read (under a millisecond) and never
    stays open, so that a bank may be handed to any number of worker processes, forked or not.

    Attributes:
        path: The file.
        shapes: int32 `n 2`, rows and columns of each image.
        weights: float64 `n`, positive, how often each image is to be drawn (not normalised).
        split: `n` strings, "train", "val" or "test"; a subject is in one of them only.
        subjects: `n` strings.
        origins: `n` strings, the file (and slice) of each image.
        pixel_size_mm: float32 `n 2`, along y and x before the image was reduced; NaN if unknown.
        raw: bool `n`, which images have k-space.
        manifest: counts, drops by reason, licences, settings.
        checksum: SHA-256 of all of it.
    """

    def __init__(
        self, path: Path, columns: Columns, manifest: dict[str, Any], checksum: str
    ) -> None:
        """Takes what `load` read."""
        self.path = path
        self._columns = columns
        self.shapes = columns.shapes
        self.weights = columns.weights
        self.split = columns.split
        self.subjects = columns.subjects
        self.origins = columns.origins
        self.pixel_size_mm = columns.pixel_size_mm
        self.raw = columns.raw
        self.manifest = manifest
        self.checksum = checksum

    @classmethod
    def load(cls, path: Path) -> SourceBank:
        """Opens a file that `chpnet-train prepare` wrote, and checks its table.

        Raises:
            InputError: if the file is missing, damaged or something else.
        """
        with _opened(path) as file:
            found = str(file.attrs.get("format", "another HDF5 file"))
            if found != FORMAT:
                raise InputError(f"{path}: found {found!r}, expected {FORMAT!r}; {AGAIN}")
            text, checksum = str(file.attrs["manifest"]), str(file.attrs["checksum"])
            table = {field.name: file["table"][field.name] for field in fields(Columns)}
            columns = Columns(
                **{
                    name: column.asstr()[()].astype(str) if column.dtype == object else column[()]
                    for name, column in table.items()
                }
            )
            if columns.checksum(text) != checksum:
                raise InputError(f"{path}: its table does not fit its checksum; {AGAIN}")
            if len(file["images"]) != len(columns.shapes):
                raise InputError(
                    f"{path}: found {len(file['images'])} images and a table of "
                    f"{len(columns.shapes)}; {AGAIN}"
                )
            return cls(path, columns, json.loads(text), checksum)

    @property
    def identity(self) -> Identity:
        """By what a run that was begun with this file knows it again."""
        return Identity(self.path.name, self.checksum)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        """Returns image ``index`` as float32 `y x` in 0..1.

        Raises:
            IndexError: beyond the last image.
            InputError: if the file is damaged there, or gone.
        """
        index = self._checked(index)
        with _opened(self.path) as file:
            return self._image(file, index)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the images in order."""
        return (self[index] for index in range(len(self)))

    def kspace(self, index: int) -> np.ndarray | None:
        """Returns the k-space that image ``index`` is from, None where there is none.

        complex64 `virtual coils ky kx`, every line measured, noise of unit variance (of a complex
        sample), readout oversampling removed.

        Raises:
            IndexError: beyond the last image.
            InputError: if the file is damaged there, or gone.
        """
        index = self._checked(index)
        if not self.raw[index]:
            return None
        with _opened(self.path) as file:
            return self._measured(file, index)

    def indices(self, split: str) -> np.ndarray:
        """Returns the int indices `n` of the images in ``split`` ("train", "val" or "test")."""
        return np.flatnonzero(self.split == split)

    def verify(self, progress: Callable[[int], None] | None = None) -> None:
        """Reads everything and compares it with its checksums.

        Args:
            progress: called with the number of images read.

        Raises:
            InputError: with the first image that is damaged.
        """
        with _opened(self.path) as file:
            for index in range(len(self)):
                self._image(file, index)
                if self.raw[index]:
                    self._measured(file, index)
                if progress is not None:
                    progress(index + 1)

    def _checked(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of a bank of {len(self)}")
        return index % len(self)

    def _image(self, file: Any, index: int) -> np.ndarray:
        height, width = (int(size) for size in self.shapes[index])
        pixels = file["images"][index, :height, :width]
        if not np.array_equal(digest(pixels), self._columns.image_sha256[index]):
            raise InputError(f"{self.path}: image {index} does not fit its checksum; {AGAIN}")
        return np.asarray(pixels, dtype=np.float32) / np.float32(65535)

    def _measured(self, file: Any, index: int) -> np.ndarray:
        kspace = np.asarray(file["kspace"][str(index)][()], dtype=np.complex64)
        if not np.array_equal(digest(kspace), self._columns.kspace_sha256[index]):
            raise InputError(f"{self.path}: k-space {index} does not fit its checksum; {AGAIN}")
        return kspace


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Opens the file; what goes wrong in reading it becomes an `InputError`."""
    import h5py

    if not path.is_file():
        raise InputError(f"{path}: no such file; expected training data, {AGAIN}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not readable as training data ({reason}); {AGAIN}") from error
