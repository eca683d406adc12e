"""What every ISMRMRD acquisition flag means here, in one table.

A flag number n of the standard (counted from 1, `ACQ_IS_REVERSE` = 22) is bit n - 1 of `flags`.
All functions take the bit mask as an int, or an array of masks (uint64), and answer bool or a bool
array. Source of the numbers: ISMRMRD 1.15, `ismrmrd/ismrmrd.h`; a test compares the table with the
installed package.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Treatment(Enum):
    """What is done with an acquisition that carries the flag."""

    EDGE = "marks the edge of a counter; used to know when something is complete"
    NOISE = "noise only: goes to the noise covariance, never into an image"
    CALIBRATION = "coil calibration; fills the image too where embedded and not measured twice"
    CALIBRATION_AND_IMAGE = "coil calibration and image data"
    REVERSE = "image data whose samples are turned round before use"
    SKIP = "not image data: counted and left out"
    NEUTRAL = "does not say what the data are for: they are used as the other flags say"


@dataclass(frozen=True)
class FlagInfo:
    """One flag: its number in the standard, its name, how it is treated and why."""

    number: int
    name: str
    treatment: Treatment
    note: str = ""

    @property
    def mask(self) -> int:
        """The bit of this flag in the header's `flags`."""
        return 1 << (self.number - 1)


_EDGE, _SKIP, _NEUTRAL = Treatment.EDGE, Treatment.SKIP, Treatment.NEUTRAL

FLAGS: tuple[FlagInfo, ...] = (
    FlagInfo(1, "ACQ_FIRST_IN_ENCODE_STEP1", _EDGE),
    FlagInfo(2, "ACQ_LAST_IN_ENCODE_STEP1", _EDGE, "ends no slice: vendors set it by segment"),
    FlagInfo(3, "ACQ_FIRST_IN_ENCODE_STEP2", _EDGE),
    FlagInfo(4, "ACQ_LAST_IN_ENCODE_STEP2", _EDGE, "ends no slice: partitions may be interleaved"),
    FlagInfo(5, "ACQ_FIRST_IN_AVERAGE", _EDGE),
    FlagInfo(6, "ACQ_LAST_IN_AVERAGE", _EDGE),
    FlagInfo(7, "ACQ_FIRST_IN_SLICE", _EDGE),
    FlagInfo(8, "ACQ_LAST_IN_SLICE", _EDGE, "the slice is complete once all averages have it"),
    FlagInfo(9, "ACQ_FIRST_IN_CONTRAST", _EDGE),
    FlagInfo(10, "ACQ_LAST_IN_CONTRAST", _EDGE),
    FlagInfo(11, "ACQ_FIRST_IN_PHASE", _EDGE),
    FlagInfo(12, "ACQ_LAST_IN_PHASE", _EDGE),
    FlagInfo(13, "ACQ_FIRST_IN_REPETITION", _EDGE),
    FlagInfo(
        14,
        "ACQ_LAST_IN_REPETITION",
        _EDGE,
        "completes every open slice of that repetition; with 8, those with the same lines",
    ),
    FlagInfo(15, "ACQ_FIRST_IN_SET", _EDGE),
    FlagInfo(16, "ACQ_LAST_IN_SET", _EDGE),
    FlagInfo(17, "ACQ_FIRST_IN_SEGMENT", _EDGE),
    FlagInfo(18, "ACQ_LAST_IN_SEGMENT", _EDGE),
    FlagInfo(19, "ACQ_IS_NOISE_MEASUREMENT", Treatment.NOISE),
    FlagInfo(20, "ACQ_IS_PARALLEL_CALIBRATION", Treatment.CALIBRATION),
    FlagInfo(21, "ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING", Treatment.CALIBRATION_AND_IMAGE),
    FlagInfo(22, "ACQ_IS_REVERSE", Treatment.REVERSE),
    FlagInfo(23, "ACQ_IS_NAVIGATION_DATA", _SKIP),
    FlagInfo(24, "ACQ_IS_PHASECORR_DATA", _SKIP),
    FlagInfo(
        25, "ACQ_LAST_IN_MEASUREMENT", _EDGE, "completes every open slice that lacks no lines"
    ),
    FlagInfo(26, "ACQ_IS_HPFEEDBACK_DATA", _SKIP),
    FlagInfo(27, "ACQ_IS_DUMMYSCAN_DATA", _SKIP),
    FlagInfo(28, "ACQ_IS_RTFEEDBACK_DATA", _SKIP),
    FlagInfo(29, "ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA", _SKIP),
    FlagInfo(30, "ACQ_IS_PHASE_STABILIZATION_REFERENCE", _SKIP),
    FlagInfo(31, "ACQ_IS_PHASE_STABILIZATION", _SKIP),
    FlagInfo(
        53,
        "ACQ_COMPRESSION1",
        _NEUTRAL,
        "data still packed are refused by length",
    ),
    FlagInfo(54, "ACQ_COMPRESSION2", _NEUTRAL, "as ACQ_COMPRESSION1"),
    FlagInfo(55, "ACQ_COMPRESSION3", _NEUTRAL, "as ACQ_COMPRESSION1"),
    FlagInfo(56, "ACQ_COMPRESSION4", _NEUTRAL, "as ACQ_COMPRESSION1"),
    *(FlagInfo(56 + n, f"ACQ_USER{n}", _NEUTRAL, "sequence's own meaning") for n in range(1, 9)),
)

BY_NUMBER: dict[int, FlagInfo] = {flag.number: flag for flag in FLAGS}
BY_NAME: dict[str, FlagInfo] = {flag.name: flag for flag in FLAGS}


def mask_of(*numbers: int) -> int:
    """Bit mask with the given flag numbers (counted from 1) set."""
    mask = 0
    for number in numbers:
        mask |= 1 << (number - 1)
    return mask


def _mask_of_treatment(*treatments: Treatment) -> int:
    return mask_of(*(flag.number for flag in FLAGS if flag.treatment in treatments))


NOISE = _mask_of_treatment(Treatment.NOISE)
CALIBRATION = _mask_of_treatment(Treatment.CALIBRATION)
CALIBRATION_AND_IMAGE = _mask_of_treatment(Treatment.CALIBRATION_AND_IMAGE)
REVERSE = _mask_of_treatment(Treatment.REVERSE)
SKIPPED = _mask_of_treatment(Treatment.SKIP)
LAST_IN_AVERAGE = BY_NAME["ACQ_LAST_IN_AVERAGE"].mask
LAST_IN_SLICE = BY_NAME["ACQ_LAST_IN_SLICE"].mask
LAST_IN_REPETITION = BY_NAME["ACQ_LAST_IN_REPETITION"].mask
LAST_IN_MEASUREMENT = BY_NAME["ACQ_LAST_IN_MEASUREMENT"].mask
IMAGE_EDGES = mask_of(*range(5, 17))
"""First and last flags (average to set): an image header has them at the same bits."""


def has(flags: Any, mask: int) -> Any:
    """True where any bit of `mask` is set in `flags` (an int, or an array of uint64)."""
    if isinstance(flags, int):
        return bool(flags & mask)
    return (flags & flags.dtype.type(mask)) != 0


def _not(answer: Any) -> Any:
    return (not answer) if isinstance(answer, bool) else ~answer


def is_noise(flags: Any) -> Any:
    """True for noise acquisitions (19)."""
    return has(flags, NOISE)


def is_skipped(flags: Any) -> Any:
    """True for what is neither image, calibration nor noise data (23, 24, 26 to 31)."""
    return has(flags, SKIPPED) & _not(has(flags, NOISE))


def is_calibration(flags: Any) -> Any:
    """True for coil calibration, also used for the image (21) or not (20)."""
    return has(flags, CALIBRATION | CALIBRATION_AND_IMAGE) & _not(has(flags, NOISE | SKIPPED))


def is_calibration_only(flags: Any) -> Any:
    """True for coil calibration that is not marked as image data (20 without 21)."""
    return has(flags, CALIBRATION) & _not(has(flags, CALIBRATION_AND_IMAGE | NOISE | SKIPPED))


def is_image(flags: Any) -> Any:
    """True for image data: all but noise, skipped kinds and pure calibration (20 without 21)."""
    return _not(has(flags, NOISE | SKIPPED)) & _not(is_calibration_only(flags))


def is_reverse(flags: Any) -> Any:
    """True where the samples run backwards (22)."""
    return has(flags, REVERSE)


def names(flags: int) -> list[str]:
    """Names of the flags that are set, by number; bits that no standard names appear as `bit n`."""
    return [
        BY_NUMBER[number].name if number in BY_NUMBER else f"bit {number}"
        for number in range(1, 65)
        if flags & (1 << (number - 1))
    ]
