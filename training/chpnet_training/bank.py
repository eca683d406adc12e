"""The bank of magnitude training images, in memory and as one file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from chpnet_stream.errors import InputError

FORMAT = "chpnet source bank 1"


class SourceBank:
    """Magnitude images of varied sizes, held as uint16 in one flat array.

    Attributes:
        shapes: int32 `n 2`, rows and columns of each image.
        weights: float64 `n`, positive, how often each image is to be drawn (not normalised).
        split: `n` strings, "train" or "val"; a subject is on one side only.
        subjects: `n` strings.
        origins: `n` strings, the file (and slice) of each image.
        manifest: counts, drops by reason, licences, settings.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        shapes: np.ndarray,
        weights: np.ndarray,
        split: np.ndarray,
        subjects: np.ndarray,
        origins: np.ndarray,
        manifest: dict[str, Any],
    ) -> None:
        """Takes the flat ``pixels`` (uint16, images one after the other) and what describes them.

        Raises:
            InputError: if the lengths contradict each other.
        """
        expected = int(np.prod(shapes.astype(np.int64), axis=1).sum())
        lengths = {len(shapes), len(weights), len(split), len(subjects), len(origins)}
        if pixels.size != expected or len(lengths) != 1:
            raise InputError(
                f"bank of {pixels.size} pixels and columns of lengths {sorted(lengths)}; expected "
                f"{expected} pixels and equal lengths. Build the bank again."
            )
        self._pixels = pixels
        self.shapes = shapes
        self._offsets = np.concatenate([[0], np.cumsum(np.prod(shapes.astype(np.int64), axis=1))])
        self.weights = weights
        self.split = split
        self.subjects = subjects
        self.origins = origins
        self.manifest = manifest

    def __len__(self) -> int:
        """Number of images."""
        return len(self.shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        """Returns image ``index`` as float32 `y x` in 0..1."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"image {index} of a bank of {len(self)}")
        index %= len(self)
        flat = self._pixels[self._offsets[index] : self._offsets[index + 1]]
        return flat.reshape(self.shapes[index]).astype(np.float32) / np.float32(65535)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the images in order."""
        return (self[index] for index in range(len(self)))

    def indices(self, split: str) -> np.ndarray:
        """Returns the int indices `n` of the images in ``split`` ("train" or "val")."""
        return np.flatnonzero(self.split == split)

    def save(self, path: Path) -> None:
        """Writes the bank as one compressed .npz, whole or not at all."""
        temporary = path.with_name(f"{path.name}.partial")
        try:
            with temporary.open("wb") as stream:
                np.savez_compressed(
                    stream,
                    format=np.array(FORMAT),
                    pixels=self._pixels,
                    shapes=self.shapes,
                    weights=self.weights,
                    split=self.split,
                    subjects=self.subjects,
                    origins=self.origins,
                    manifest=np.array(json.dumps(self.manifest)),
                )
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> SourceBank:
        """Reads a bank that `save` wrote.

        Raises:
            InputError: if the file is missing, damaged or no bank.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                found = str(stored["format"]) if "format" in stored else "no format entry"
                if found != FORMAT:
                    raise InputError(
                        f"{path}: found {found!r}; expected {FORMAT!r}. Build the bank again."
                    )
                return cls(
                    stored["pixels"],
                    stored["shapes"],
                    stored["weights"],
                    stored["split"],
                    stored["subjects"],
                    stored["origins"],
                    json.loads(str(stored["manifest"])),
                )
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as e:
            raise InputError(
                f"{path}: not a readable bank ({e}). Build one with `chpnet-train bank`."
            ) from e
