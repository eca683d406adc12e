"""Folders of single slices: PNG and JPEG images, and ``.npy`` arrays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from chpnet_stream.errors import InputError
from chpnet_training.readers.image import SkipCounter, SourceImage, scale_volume

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_image(path: Path) -> SourceImage:
    """Reads one PNG or JPEG as a slice.

    Colour becomes luminance (ITU-R BT.601, as Pillow's mode ``L``), alpha is dropped, the EXIF
    orientation is applied. The scale is that of the file's integer type (255 or 65535), since the
    volume that the picture was cut from is unknown.

    Raises:
        InputError: if the file is no image, is truncated or has no signal.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I"):
                pixels = np.asarray(picture, dtype=np.float32) / 65535.0
            else:
                if picture.mode in {"RGBA", "LA", "P", "PA"}:
                    picture = picture.convert("RGBA").convert("RGB")  # drops alpha, keeps colour
                pixels = np.asarray(picture.convert("L"), dtype=np.float32) / 255.0
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable PNG or JPEG image ({error}). Replace or remove the file."
        ) from error
    if not pixels.any():
        raise InputError(f"{path}: all pixels are zero; expected an image. Remove the file.")
    return SourceImage(np.clip(pixels, 0, 1), subject=path.stem, origin=path.name)


def read_array(path: Path) -> SourceImage:
    """Reads one ``.npy`` slice `y x` (real or complex, scaled by its maximum).

    Raises:
        InputError: if the file is no numeric two-dimensional array without objects.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path}: not a readable .npy array ({error}). Save a two-dimensional numeric array."
        ) from error
    if array.ndim != 2 or array.dtype.kind not in "uifc":
        raise InputError(
            f"{path}: found {array.dtype} of shape {array.shape}; expected a numeric array `y x`. "
            "Save one slice per file."
        )
    return SourceImage(scale_volume(array, str(path)), subject=path.stem, origin=path.name)


def read_folder(
    folder: Path, *, subject_prefix: str = "", skipped: SkipCounter | None = None
) -> Iterator[SourceImage]:
    """Yields every PNG, JPEG and ``.npy`` slice below ``folder`` in the order of their paths.

    Files of other kinds and files that cannot be read are counted in ``skipped`` and passed over:
    downloads of images are seldom clean.

    Args:
        folder: folder that is searched with its subfolders.
        subject_prefix: put before the file name to make the subject unique over folders.
        skipped: counts what was left out and why.

    Raises:
        InputError: if ``folder`` is not a folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a folder of images. Check the path.")
    skipped = SkipCounter() if skipped is None else skipped
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        suffix = path.suffix.lower()
        if suffix not in (*IMAGE_SUFFIXES, ".npy"):
            skipped.skip("not an image", path.name)
            continue
        try:
            image = read_array(path) if suffix == ".npy" else read_image(path)
        except InputError:
            skipped.skip("unreadable", path.name)
            continue
        yield SourceImage(
            image.magnitude,
            subject=f"{subject_prefix}{image.subject}",
            origin=str(path.relative_to(folder)),
            pixel_size_mm=image.pixel_size_mm,
        )
