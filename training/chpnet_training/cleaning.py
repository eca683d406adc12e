"""Simple stated rules that turn found magnitude images into training images, or reject them.

The rules look at intensities only, so every limit below is a choice, made by looking at the images
that it keeps and drops. All intensities are relative to the image's 99th percentile.
"""

from __future__ import annotations

import numpy as np

BACKGROUND_LEVEL = 0.12
"""Below this fraction of the 99th percentile a pixel counts as air."""

FLOOR_LIMIT = 0.07
"""The background floor is never taken above this fraction of the 99th percentile."""

MINIMUM_CONTRAST = 0.1
"""Least 99th percentile on the scale 0..1: darker images have too few grey levels."""


def bright_level(image: np.ndarray) -> float:
    """Returns the 99th percentile of ``image`` `y x`, the unit of the limits in this file."""
    return float(np.percentile(image, 99))


def head_mask(image: np.ndarray) -> np.ndarray:
    """Returns a bool mask `y x` of the largest object: filled closing of the bright pixels.

    Found on a reduced copy of at most 256 pixels a side, which is enough for a crop and quick.
    """
    from PIL import Image

    height, width = image.shape
    small = _largest_object(limit_size(image, 256))
    full = Image.fromarray(small).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(full, dtype=bool)


def _largest_object(image: np.ndarray) -> np.ndarray:
    """Returns the bool mask `y x` of the largest component of the filled closing."""
    from scipy import ndimage

    bright = image > BACKGROUND_LEVEL * bright_level(image)
    closed = ndimage.binary_closing(np.pad(bright, 4), iterations=3)[4:-4, 4:-4]
    labels, count = ndimage.label(ndimage.binary_fill_holes(closed))
    if count == 0:
        return np.zeros(image.shape, dtype=bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def reject_reason(image: np.ndarray, *, minimum_side: int = 160) -> str | None:
    """Returns why the magnitude ``image`` `y x` is unfit for training, or None where it is fit.

    The rules, in this order: shorter side below ``minimum_side`` pixels; 99th percentile below 0.1
    of full scale; background not dark (the darkest fifth of the border, the darkest tenth of the
    image or half of the air around the head lies above a limit); the head touches more than 45 %
    of the border; no large object (less than 12 % of the image); hard windowing (more than 3 % of
    the head within 1 % of the highest intensity: also what CT bone looks like); annotations
    (bright marks well away from the head). All but the first are judged on a copy of at most 256
    pixels a side.
    """
    from scipy import ndimage

    if min(image.shape) < minimum_side:
        return f"shorter side below {minimum_side} pixels"
    image = limit_size(image, 256)
    level = bright_level(image)
    if level < MINIMUM_CONTRAST:
        return "too dark"
    air = BACKGROUND_LEVEL * level
    rim = max(2, min(image.shape) // 64)
    border = np.concatenate(
        [
            image[:rim].ravel(),
            image[-rim:].ravel(),
            image[rim:-rim, :rim].ravel(),
            image[rim:-rim, -rim:].ravel(),
        ]
    )
    if np.percentile(border, 20) > air or np.percentile(image, 10) > air:
        return "background not dark"
    if float(np.mean(border > air)) > 0.45:
        return "head touches the border"
    head = head_mask(image)
    if float(head.mean()) < 0.12:
        return "no large object"
    if float(np.mean(image[head] > 0.99 * float(image.max()))) > 0.03:
        return "hard windowing or CT"
    around = ~ndimage.binary_dilation(head, iterations=4)
    if around.any() and np.median(image[around]) > FLOOR_LIMIT * level:
        return "background not dark"
    near = ndimage.binary_dilation(head, iterations=max(3, min(image.shape) // 40))
    marks, count = ndimage.label((image > 0.45 * level) & ~near)
    if count and int((np.bincount(marks.ravel())[1:] >= 6).sum()) >= 2:
        return "annotated"
    return None


def darken_background(image: np.ndarray) -> np.ndarray:
    """Returns ``image`` `y x` with the floor of its background taken off softly.

    The floor t is the 95th percentile of the air outside the head (JPEG noise, the Rician floor),
    at most 7 % of the 99th percentile; every pixel m becomes sqrt(max(m^2 - t^2, 0)). As the
    Rician bias correction of Gudbjartsson & Patz (MRM 34:910, 1995) does, this darkens air and
    leaves pixels well above the floor almost alone.
    """
    from scipy import ndimage

    level = bright_level(image)
    air = ~ndimage.binary_dilation(head_mask(image), iterations=4)
    if int(air.sum()) < 64:
        return image
    floor = min(float(np.percentile(image[air], 95)), FLOOR_LIMIT * level)
    return np.sqrt(np.maximum(image.astype(np.float32) ** 2 - np.float32(floor**2), 0))


def trim_frame(image: np.ndarray) -> np.ndarray:
    """Returns ``image`` `y x` without its outermost 1 % (at least 2 pixels) on each side.

    Pictures from web pages are often drawn with a thin frame, or end in a line of another tone.
    """
    edge = max(2, round(0.01 * min(image.shape)))
    return image[edge:-edge, edge:-edge]


def crop_to_head(image: np.ndarray, *, margin: float = 0.06) -> np.ndarray:
    """Returns ``image`` `y x` cut to the head's bounding box plus ``margin`` of its size a side."""
    head = head_mask(image)
    if not head.any():
        return image
    window = []
    for axis in (0, 1):
        (inside,) = np.nonzero(head.any(axis=1 - axis))
        extra = round(margin * (inside[-1] - inside[0] + 1))
        window.append(slice(max(0, inside[0] - extra), inside[-1] + 1 + extra))
    return image[tuple(window)]


def limit_size(image: np.ndarray, maximum_side: int) -> np.ndarray:
    """Returns ``image`` `y x` reduced (Lanczos, never enlarged) to ``maximum_side`` pixels a side.

    Scanners and web pages enlarge images by interpolation; their finest detail is empty or JPEG
    blocks, and reduction takes it off.
    """
    from PIL import Image

    height, width = image.shape
    scale = maximum_side / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    reduced = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
    return np.clip(reduced, 0, 1)


def perceptual_hash(image: np.ndarray, *, side: int = 16, crop: bool = True) -> np.ndarray:
    """Returns a difference hash: +-1 float32 `side*side`, +1 where the right neighbour is brighter.

    Computed on the head alone, so that size, margin and brightness do not matter; differences
    below 1 % of the bright level count as none, so that noise in the air does not. With ``crop``
    off, on the whole frame: independent of how well the head is found.
    """
    from PIL import Image

    shown = crop_to_head(image, margin=0) if crop else image
    picture = Image.fromarray(np.ascontiguousarray(shown, np.float32))
    small = np.asarray(picture.resize((side + 1, side), Image.Resampling.BOX))
    rising = np.diff(small, axis=1) > 0.01 * bright_level(image)
    return np.where(rising, 1.0, -1.0).astype(np.float32).ravel()


def hash_distances(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Returns the Hamming distances `n` between one +-1 hash `bits` and ``many`` `n bits`."""
    return (one.size - many @ one) / 2
