"""Axial slices of simulated heads, for a bank where there are no images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from chpnet_stream.simulation.phantom import HeadPhantom
from chpnet_training.readers.image import SourceImage

HEIGHTS_MM = (-20.0, 0.0, 15.0, 30.0, 45.0)
"""Where a head is cut, above its middle."""

FOV_MM = 240.0


def read_phantoms(heads: Iterable[int], *, size: int = 192) -> Iterator[SourceImage]:
    """Yields five slices, `size` squared, of every head; T1- and T2-weighted heads by turns.

    Args:
        heads: seeds of the heads; each is a subject.
        size: pixels along both sides of 240 mm.
    """
    pixel = FOV_MM / size
    axis = ((np.arange(size) - size // 2) * pixel).astype(np.float32)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    for head in heads:
        phantom = HeadPhantom(head)
        for height in HEIGHTS_MM:
            z = np.full_like(x, height)
            image = phantom.image((x, y, z), "t2" if head % 2 else "t1")
            # heads share one scale as the slices of a volume do: signals are 0 to about 1
            magnitude = np.clip(image, 0, 1).astype(np.float32)
            origin = f"head {head} z {height:g} mm"
            yield SourceImage(magnitude, f"head {head}", origin, (pixel, pixel))
