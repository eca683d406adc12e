"""Finding pictures that are the same, and pictures that may show the same person."""

from __future__ import annotations

import numpy as np

from chpnet_training.cleaning import hash_distances, perceptual_hash

PICTURES_DISTANCE = 16
"""Bits of 256 that two pictures of the same head may differ in (size, margin, brightness)."""

FRAMES_DISTANCE = 10
"""The same for two whole frames: finds copies of another encoding or contrast, whose head is cut
out a little differently."""

VOLUMES_DISTANCE = 6
"""The same where a slice of a volume is one of the two: slices of different heads look alike."""

RELATED_DISTANCE = 44
"""Bits that pictures of one person may differ in."""


class DuplicateFinder:
    """Remembers the difference hashes of all images kept so far: of the heads, and of the frames.

    Images of one subject are not compared: neighbouring slices look alike and must stay.
    """

    def __init__(self) -> None:
        self._count = 0
        self._codes = np.zeros((1024, 2, 256), dtype=np.float32)
        self._subjects = np.zeros(1024, dtype=np.int64)
        self._pictures = np.zeros(1024, dtype=bool)
        self._numbers: dict[object, int] = {}

    @property
    def codes(self) -> np.ndarray:
        """Hashes of the heads of the images kept, +-1 float32 `n 256`."""
        return self._codes[: self._count, 0]

    def is_new(self, image: np.ndarray, subject: object, *, picture: bool) -> bool:
        """Whether an image is no copy of one of another subject, mirrored or not; then keeps it.

        Args:
            image: magnitude `y x` with a dark background, not cropped.
            subject: whom it shows; anything that can be a key.
            picture: a single picture, not a slice of a volume.
        """
        number = self._number(subject)
        known = slice(0, self._count)
        others = self._subjects[known] != number
        both = self._pictures[known] & picture
        views = _hashes(image), _hashes(image[:, ::-1])
        for head, frame in views:
            limit = np.where(both, PICTURES_DISTANCE, VOLUMES_DISTANCE)
            near = hash_distances(head, self._codes[known, 0]) <= limit
            near |= both & (hash_distances(frame, self._codes[known, 1]) <= FRAMES_DISTANCE)
            if (others & near).any():
                return False
        self._keep(views[0], number, picture)
        return True

    def keep(self, image: np.ndarray, subject: object, *, picture: bool) -> None:
        """Keep an image without comparing it."""
        self._keep(_hashes(image), self._number(subject), picture)

    def _number(self, subject: object) -> int:
        return self._numbers.setdefault(subject, len(self._numbers))

    def _keep(self, codes: tuple[np.ndarray, np.ndarray], number: int, picture: bool) -> None:
        if self._count == len(self._codes):
            self._codes = np.concatenate([self._codes, np.zeros_like(self._codes)])
            self._subjects = np.concatenate([self._subjects, np.zeros_like(self._subjects)])
            self._pictures = np.concatenate([self._pictures, np.zeros_like(self._pictures)])
        self._codes[self._count] = codes
        self._subjects[self._count] = number
        self._pictures[self._count] = picture
        self._count += 1


def _hashes(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the head and of the frame."""
    return perceptual_hash(image), perceptual_hash(image, crop=False)


def tie(codes: np.ndarray, distance: float = RELATED_DISTANCE, block: int = 2048) -> list[int]:
    """Returns for each hash the index of its first relative (single linkage).

    Args:
        codes: +-1 float32 `n bits`.
        distance: bits that relatives may differ in.
        block: rows compared with all others at once.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(codes)
    rows, columns = [], []
    for start in range(0, n, block):
        part = codes[start : start + block]
        near = (codes.shape[1] - part @ codes.T) / 2 <= distance
        row, column = np.nonzero(near)
        rows.append(row + start)
        columns.append(column)
    if n == 0:
        return []
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.ones(len(row), dtype=bool), (row, column)), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    first: dict[int, int] = {}
    return [first.setdefault(int(label), index) for index, label in enumerate(labels)]
