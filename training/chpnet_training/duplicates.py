"""Finding pictures that are the same, and pictures that may show the same person."""

from __future__ import annotations

import numpy as np

from chpnet_training.cleaning import hash_distances, perceptual_hash

PICTURES_DISTANCE = 16
"""Bits of 256 that two pictures of the same thing may differ in (encoding, size, brightness)."""

VOLUMES_DISTANCE = 6
"""The same where a slice of a volume is one of the two: slices of different heads look alike."""

RELATED_DISTANCE = 44
"""Bits that pictures of one person may differ in."""


class DuplicateFinder:
    """Remembers the difference hashes of all images kept so far.

    Images of one subject are not compared: neighbouring slices look alike and must stay.
    """

    def __init__(self) -> None:
        self._count = 0
        self._codes = np.zeros((1024, 256), dtype=np.float32)
        self._subjects = np.zeros(1024, dtype=np.int64)
        self._pictures = np.zeros(1024, dtype=bool)
        self._numbers: dict[object, int] = {}

    @property
    def codes(self) -> np.ndarray:
        """Hashes of the images kept, +-1 float32 `n 256`."""
        return self._codes[: self._count]

    def is_new(self, image: np.ndarray, subject: object, *, picture: bool) -> bool:
        """Whether an image is no copy of one of another subject, mirrored or not; then keeps it.

        Args:
            image: cleaned magnitude `y x`.
            subject: whom it shows; anything that can be a key.
            picture: a single picture, not a slice of a volume.
        """
        number = self._numbers.setdefault(subject, len(self._numbers))
        code = perceptual_hash(image)
        mirrored = perceptual_hash(image[:, ::-1])
        known = slice(0, self._count)
        others = self._subjects[known] != number
        both = self._pictures[known] & picture
        limit = np.where(both, PICTURES_DISTANCE, VOLUMES_DISTANCE)
        for view in (code, mirrored):
            if (others & (hash_distances(view, self._codes[known]) <= limit)).any():
                return False
        self._keep(code, number, picture)
        return True

    def keep(self, image: np.ndarray, subject: object, *, picture: bool) -> None:
        """Keep an image without comparing it."""
        number = self._numbers.setdefault(subject, len(self._numbers))
        self._keep(perceptual_hash(image), number, picture)

    def _keep(self, code: np.ndarray, number: int, picture: bool) -> None:
        if self._count == len(self._codes):
            self._codes = np.concatenate([self._codes, np.zeros_like(self._codes)])
            self._subjects = np.concatenate([self._subjects, np.zeros_like(self._subjects)])
            self._pictures = np.concatenate([self._pictures, np.zeros_like(self._pictures)])
        self._codes[self._count] = code
        self._subjects[self._count] = number
        self._pictures[self._count] = picture
        self._count += 1


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
