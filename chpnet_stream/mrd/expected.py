"""Which images a scan in a file promises, from the counters of its acquisitions."""

from __future__ import annotations

from dataclasses import dataclass

from chpnet_stream.mrd import flags
from chpnet_stream.mrd.files import ScanFile

POSITION_FIELDS = ("slice", "contrast", "phase", "repetition", "set")


@dataclass(frozen=True)
class Expected:
    """What the headers of the acquisitions announce.

    Attributes:
        images: Images of the whole scan.
        positions: Slices and partitions at different places.
        middle: Slice and partition in the middle of the scan.
        partitions: Images of one slab of a 3-D scan; else 1.
        keys: Counters (`POSITION_FIELDS`) of everything that has lines of its own.
    """

    images: int
    positions: int
    middle: tuple[int, int]
    partitions: int = 1
    keys: frozenset[tuple[int, ...]] = frozenset()


def expect(scan: ScanFile) -> Expected:
    """Count the images to expect, from the counters of the image lines."""
    seen: set[tuple[int, ...]] = set()
    spaces: list[int] = []
    for heads in scan.heads():
        images = heads[flags.is_image(heads["flags"])]
        index = images["idx"]
        seen.update(zip(*(index[name].tolist() for name in POSITION_FIELDS), strict=True))
        spaces = spaces or images["encoding_space_ref"][:1].tolist()
    encodings = scan.header.encodings
    encoding = encodings[min(next(iter(spaces), 0), len(encodings) - 1)]
    partitions = encoding.cropped(2) if encoding.is_3d else 1
    slices = sorted({key[0] for key in seen}) or [0]
    middle = (slices[len(slices) // 2], partitions // 2)
    return Expected(
        len(seen) * partitions, len(slices) * partitions, middle, partitions, frozenset(seen)
    )
