"""MR series in DICOM files. No name, number or date of a patient leaves this module unhashed.

What is read: original magnitude images of modality MR, single- and multi-frame, with their rescale
slopes; MONOCHROME1 is turned over. The patient's identifier becomes the subject (private: it is
hashed before anything is written), and origins name a series by its place in the folder, since
folders of DICOM files are often named after people.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chpnet_stream.errors import InputError
from chpnet_training.readers.image import (
    FURTHEST_BELOW,
    SkipCounter,
    SourceImage,
    scale_volume,
)

_HEADER_TAGS = [
    "SOPClassUID", "Modality", "ImageType", "SeriesInstanceUID", "StudyInstanceUID", "PatientID",
    "SeriesDescription", "ProtocolName", "InstanceNumber", "SamplesPerPixel", "BurnedInAnnotation",
    "PhotometricInterpretation", "Rows", "ComplexImageComponent", "NumberOfFrames",
]  # fmt: skip
_GE_CREATOR, _GE_KIND = (0x0043, 0x0010), (0x0043, 0x102F)
"""GE tells in a private element only what an image is: 0 magnitude, else phase, real, imaginary."""
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_LOCALISER = re.compile(r"locali[sz]er|scout|survey|\b3[ -]?plane|\bloc\b", re.IGNORECASE)
_NO_MAGNITUDE = {"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY", "VELOCITY"}


@dataclass(frozen=True)
class _File:
    path: Path
    number: int
    subject: str
    frames: int


def read_dicom(
    paths: Iterable[Path],
    *,
    step: int = 1,
    subject: Callable[[Path], str] | None = None,
    skipped: SkipCounter | None = None,
    unreadable: Callable[[InputError, Path], None] | None = None,
    tick: Callable[[Path], None] | None = None,
) -> Iterator[SourceImage]:
    """Yields the slices of all series among the files; each series is scaled by its own maximum.

    Left out and counted: other modalities, secondary captures, derived images (also mosaics),
    localisers, images that are no magnitude (by header, or as a series has samples far below zero),
    colour, images with burned-in text, files without pixels.

    Args:
        paths: the files, of any number of series, in any order.
        step: every how manieth slice of a series is taken; of multi-frame files, frame of a file.
        subject: whom a file shows; by default the patient in its header.
        skipped: counts what was left out and why.
        unreadable: called with the error of a file that cannot be read; by default it is raised.
        tick: called with every file when its pixels are read or it is left out.

    Raises:
        InputError: if a file is no readable DICOM file.
    """
    skipped = SkipCounter() if skipped is None else skipped
    series: dict[tuple[str, str], list[_File]] = defaultdict(list)
    tags = [*_HEADER_TAGS, _GE_CREATOR, _GE_KIND]
    for path in paths:
        try:
            header = _read(path, stop_before_pixels=True, specific_tags=tags)
            with _as_input_error(path):
                reason = _reason(header)
                uid = str(header.get("SeriesInstanceUID") or path.parent)
                number = int(header.get("InstanceNumber") or 0)
                frames = int(header.get("NumberOfFrames") or 1)
                patient = _subject(header, path)
            file = _File(path, number, patient if subject is None else subject(path), frames)
        except InputError as error:
            _tell(error, path, unreadable)
            reason = None
            uid = ""
        if reason is not None:
            skipped.skip(reason, path.name)
        if reason is not None or not uid:
            if tick is not None:
                tick(path)
            continue
        series[uid, file.subject].append(file)
    for place, files in enumerate(series.values()):
        files.sort(key=lambda file: (file.number, str(file.path)))
        if any(file.frames > 1 for file in files):
            yield from _read_series(files, place, step, skipped, unreadable, tick)
        else:
            yield from _read_series(files[::step], place, 1, skipped, unreadable, tick)


def _read_series(
    files: list[_File],
    place: int,
    step: int,
    skipped: SkipCounter,
    unreadable: Callable[[InputError, Path], None] | None,
    tick: Callable[[Path], None] | None,
) -> Iterator[SourceImage]:
    """The slices of one series; every how manieth frame of each file."""
    frames: list[tuple[np.ndarray, tuple[float, float] | None, bool]] = []
    for file in files:
        try:
            frames += _frames(file.path, step)
        except InputError as error:
            _tell(error, file.path, unreadable)
        if tick is not None:
            tick(file.path)
    if not frames:
        return
    lowest = min(float(frame.min()) for frame, _, _ in frames)
    highest = max(float(frame.max()) for frame, _, _ in frames)
    if lowest < -FURTHEST_BELOW * highest:  # phases and the like whose headers don't say so
        skipped.skip("no magnitude", f"series {place}")
        return
    # MONOCHROME1: the lowest number is the brightest. Its darkest is the series' highest.
    planes = [highest - frame if inverted else frame for frame, _, inverted in frames]
    try:
        scaled = scale_volume(np.concatenate([plane.ravel() for plane in planes]), "series")
    except InputError as error:
        _tell(InputError(f"{files[0].path} and its series: {error}"), files[0].path, unreadable)
        return
    stops = np.cumsum([plane.size for plane in planes])
    for number, (plane, stop) in enumerate(zip(planes, stops, strict=True)):
        yield SourceImage(
            scaled[stop - plane.size : stop].reshape(plane.shape),
            files[0].subject,
            f"series {place} slice {number}",
            frames[number][1],
            private=True,
        )


def _reason(header: Any) -> str | None:
    """Why an image is not for training; None where it is."""
    kinds = [str(word).upper().strip() for word in header.get("ImageType") or []]
    words = f"{header.get('SeriesDescription', '')} {header.get('ProtocolName', '')}"
    modality = str(header.get("Modality") or "none")
    samples = int(header.get("SamplesPerPixel") or 1)
    colours = str(header.get("PhotometricInterpretation") or "MONOCHROME2")
    component = str(header.get("ComplexImageComponent") or "MAGNITUDE")
    checks = (
        (modality != "MR", f"modality {modality}"),
        (str(header.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURE), "secondary capture"),
        (not header.get("Rows"), "no image in it"),
        (samples != 1 or not colours.startswith("MONOCHROME"), "colour"),
        ("LOCALIZER" in kinds or bool(_LOCALISER.search(words)), "localiser"),
        (kinds[:1] == ["DERIVED"], "derived"),
        ("MOSAIC" in kinds, "mosaic"),
        (bool(_NO_MAGNITUDE & set(kinds)) or component != "MAGNITUDE", "no magnitude"),
        (_is_part_of_ge(header), "no magnitude"),
        (str(header.get("BurnedInAnnotation") or "NO") == "YES", "burned-in annotation"),
    )
    return next((reason for found, reason in checks if found), None)


def _is_part_of_ge(header: Any) -> bool:
    """Whether it is a phase, real or imaginary image of a GE scanner, in whatever series."""
    creator, kind = (header.get(tag) for tag in (_GE_CREATOR, _GE_KIND))
    if creator is None or kind is None or str(creator.value).strip() != "GEMS_PARM_01":
        return False
    return bool(any(kind.value) if isinstance(kind.value, bytes) else kind.value)


def _subject(header: Any, path: Path) -> str:
    """The patient, by the identifier alone, as the readers of raw data have it.

    Without one the study, the series, at last the folder.
    """
    for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"):
        found = str(header.get(name) or "").strip()
        if found:
            return found
    return f"folder {path.parent}"


def _frames(path: Path, step: int) -> list[tuple[np.ndarray, tuple[float, float] | None, bool]]:
    """Frames `y x` (float32, rescaled), their pixels in mm, and whether low is bright.

    Args:
        path: the file.
        step: every how manieth frame.
    """
    data = _read(path)
    with _as_input_error(path):
        stored = np.asarray(data.pixel_array)
        planes = stored[np.newaxis] if stored.ndim == 2 else stored
        inverted = str(data.PhotometricInterpretation) == "MONOCHROME1"
        return [
            (_rescaled(plane, data, number), _pixel_size(data, number), inverted)
            for number, plane in list(enumerate(planes))[::step]
        ]


def _rescaled(plane: np.ndarray, data: Any, frame: int) -> np.ndarray:
    """Stored numbers times slope plus intercept; zero where nothing was measured."""
    found = _functional(data, frame, "PixelValueTransformationSequence", "RescaleSlope") or data
    slope = float(found.get("RescaleSlope", 1.0) or 1.0)
    intercept = float(found.get("RescaleIntercept", 0.0) or 0.0)
    values = (plane.astype(np.float32) * slope + intercept).astype(np.float32)
    values[plane == data.get("PixelPaddingValue")] = 0
    return values


def _pixel_size(data: Any, frame: int) -> tuple[float, float] | None:
    found = _functional(data, frame, "PixelMeasuresSequence", "PixelSpacing") or data
    spacing = found.get("PixelSpacing")
    if not spacing or min(float(size) for size in spacing) <= 0:
        return None
    return float(spacing[0]), float(spacing[1])


def _functional(data: Any, frame: int, sequence: str, wanted: str) -> Any:
    """The item of a multi-frame file that holds `wanted`: of the frame, else of all frames."""
    groups = list(data.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]
    for group in (*groups, *(data.get("SharedFunctionalGroupsSequence") or [])):
        items = group.get(sequence)
        if items and wanted in items[0]:
            return items[0]
    return None


def _read(path: Path, **options: Any) -> Any:
    import pydicom

    with _as_input_error(path):
        return pydicom.dcmread(path, force=True, **options)


@contextmanager
def _as_input_error(path: Path) -> Iterator[None]:
    """What pydicom and its decoders raise becomes an `InputError`; its warnings stay silent."""
    import struct

    from pydicom.errors import BytesLengthException, InvalidDicomError

    faults = (
        OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, IndexError,
        RuntimeError, NotImplementedError, struct.error, InvalidDicomError, BytesLengthException,
    )  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except faults as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not a readable DICOM image ({reason}).") from error


def _tell(
    error: InputError, path: Path, unreadable: Callable[[InputError, Path], None] | None
) -> None:
    if unreadable is None:
        raise error
    unreadable(error, path)
