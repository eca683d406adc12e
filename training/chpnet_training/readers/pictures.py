"""Single slices: PNG and JPEG images, and ``.npy`` arrays."""

from __future__ import annotations

import struct
import tokenize
import zlib
from pathlib import Path

import numpy as np

from chpnet_stream.errors import InputError
from chpnet_training.readers.image import SourceImage, scale_volume

_FAULTS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


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
    except (*_FAULTS, UnidentifiedImageError, Image.DecompressionBombError) as error:
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
    except (*_FAULTS, MemoryError, tokenize.TokenError) as error:
        raise InputError(
            f"{path}: not a readable .npy array ({error}). Save a two-dimensional numeric array."
        ) from error
    if array.ndim != 2 or array.dtype.kind not in "uifc":
        raise InputError(
            f"{path}: found {array.dtype} of shape {array.shape}; expected a numeric array `y x`. "
            "Save one slice per file."
        )
    return SourceImage(scale_volume(array, str(path)), subject=path.stem, origin=path.name)


def read_picture(path: Path) -> SourceImage:
    """Reads one slice, by its content: an array, else an image.

    Raises:
        InputError: as `read_image` and `read_array`.
    """
    try:
        with path.open("rb") as file:
            is_array = file.read(6) == b"\x93NUMPY"
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}).") from error
    return read_array(path) if is_array else read_image(path)
