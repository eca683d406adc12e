"""The methods of reconstruction, in the order they are tried, and what each of them gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Method = Literal["chpnet", "cg-sense", "zero-filled", "rss"]
METHODS: tuple[str, ...] = get_args(Method)

LADDERS: dict[str, tuple[str, ...]] = {
    "chpnet": ("chpnet", "cg-sense", "rss"),
    "cg-sense": ("cg-sense", "rss"),
    "zero-filled": ("zero-filled", "rss"),
    "rss": ("rss",),
}
"""What is tried, in this order, so that a slice is never lost."""

LATE = "late"
"""Kind of fallback where the network missed the deadline."""

REASONS = (
    LATE,
    "GPU hangs",
    "engine failed",
    "engine not loaded",
    "misses the data",
    "network not asked any more",
    "no coil maps",
    "not finite",
    "not whitened",
    "unexpected error",
    "unlike the conventional image",
    "wrong noise level",
    "wrong scale",
)
"""Kinds of fallbacks: what the reason of one begins with."""


@dataclass(frozen=True)
class Reconstruction:
    """An image and how it came to be.

    Attributes:
        image: Magnitude `y x`, float32 (where complex images were asked for: complex64), cut to
            the reconstructed field of view. Unit: standard deviation of the noise (of a complex
            sample of one average), the same for all slices of the scan.
        method: The method that made it.
        wanted: The method that was asked for.
        fallback: Why they differ; None where they don't.
        residual: Relative data-consistency residual; None for `rss`.
        virtual_coils: Coils after compression.
        milliseconds: Time of every step.
        notes: Steps for the image's processing history.
        baseline: The conventional image of the same slice, where it was asked for.
        mark: What is wrong with the data themselves; empty where nothing was noticed.
        engine: What ran the network; None where the image is not the network's.
    """

    image: np.ndarray
    method: str
    wanted: str
    fallback: str | None
    residual: float | None
    virtual_coils: int
    milliseconds: dict[str, float]
    notes: tuple[str, ...]
    baseline: Reconstruction | None = None
    mark: str = ""
    engine: str | None = None
