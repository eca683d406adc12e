"""What every reader hands on: one magnitude slice and where it came from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from chpnet_stream.errors import InputError

FURTHEST_BELOW = 0.25
"""Share of the maximum by which interpolation may have brought samples below zero."""


@dataclass(frozen=True)
class SourceImage:
    """One magnitude slice.

    Attributes:
        magnitude: float32 `y x`, 0..1, scaled by the maximum of its whole volume.
        subject: whom or what the slice shows; splits keep a subject on one side.
        origin: file name and slice, for people who look a slice up.
        pixel_size_mm: size of a pixel along y and x in millimetres, None where the file has none.
        named: ``subject`` is a person's name, and not a file's: whoever has it in another source is
            the same person.
        private: ``subject`` is a patient's identifier, to be hashed before anything is written;
            also a person's name.
        kspace: complex64 `virtual coils ky kx`, fully sampled, noise of unit variance; None where
            the source is no raw data.
    """

    magnitude: np.ndarray
    subject: str
    origin: str
    pixel_size_mm: tuple[float, float] | None = None
    named: bool = False
    private: bool = False
    kspace: np.ndarray | None = None


@dataclass
class SkipCounter:
    """Counts what a reader left out, by reason, with the first few names of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def skip(self, reason: str, name: str) -> None:
        """Counts one skipped item; ``name`` is kept for the first five of each reason."""
        self.counts[reason] += 1
        names = self.examples.setdefault(reason, [])
        if len(names) < 5:
            names.append(name)


def scale_volume(volume: np.ndarray, origin: str) -> np.ndarray:
    """Returns the magnitude of ``volume`` as float32 in 0..1, divided by its own maximum.

    Of real samples those below zero (the ringing of an interpolation) become zero.

    Args:
        volume: real or complex array of any shape; the whole volume, not one slice of it.
        origin: name used in the error.

    Raises:
        InputError: if there are samples that are not finite, or far below zero, or nothing but
            zeros.
    """
    if np.iscomplexobj(volume):
        magnitude = np.abs(volume).astype(np.float32)
    else:
        signed = np.asarray(volume, dtype=np.float32)
        lowest, highest = (float(extreme(initial=0.0)) for extreme in (signed.min, signed.max))
        if lowest < -FURTHEST_BELOW * highest:
            raise InputError(
                f"{origin}: found samples from {lowest:g} to {highest:g}; expected magnitudes, not "
                "phases, normalised intensities (z-scores) or CT. Leave out this volume."
            )
        magnitude = np.maximum(signed, 0)
    return magnitude / np.float32(checked_peak(magnitude, origin))


def checked_peak(magnitude: np.ndarray, origin: str) -> float:
    """Returns the maximum of a volume's magnitude.

    Raises:
        InputError: as `scale_volume`.
    """
    if not np.isfinite(magnitude).all():
        bad = int((~np.isfinite(magnitude)).sum())
        raise InputError(
            f"{origin}: {bad} of {magnitude.size} samples are not finite; "
            "expected finite intensities. Repair or leave out this volume."
        )
    peak = float(magnitude.max(initial=0.0))
    if peak <= 0:
        raise InputError(
            f"{origin}: all {magnitude.size} samples are zero; expected an image with signal. "
            "Leave out this volume."
        )
    return peak
