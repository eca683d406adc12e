"""Fully sampled two-dimensional ISMRMRD scans, as multi-coil k-space and as complex coil images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chpnet_stream.errors import InputError
from chpnet_training.readers.image import SourceImage, scale_volume

_COUNTERS = ("slice", "contrast", "phase", "repetition", "set")
_NO_IMAGE_FLAGS = ("ACQ_IS_NOISE_MEASUREMENT", "ACQ_IS_PARALLEL_CALIBRATION")
_NAVIGATOR_FLAGS = (
    "ACQ_IS_NAVIGATION_DATA",
    "ACQ_IS_PHASECORR_DATA",
    "ACQ_IS_HPFEEDBACK_DATA",
    "ACQ_IS_DUMMYSCAN_DATA",
    "ACQ_IS_RTFEEDBACK_DATA",
    "ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA",
    "ACQ_IS_PHASE_STABILIZATION",
    "ACQ_IS_PHASE_STABILIZATION_REFERENCE",
)


@dataclass(frozen=True)
class CoilImages:
    """One slice of a fully sampled scan.

    Attributes:
        kspace: complex64 `coils ky kx`, readout oversampling removed.
        images: complex64 `coils y x`, the centred orthonormal inverse FFT of ``kspace``.
        counters: slice, contrast, phase, repetition and set.
        pixel_size_mm: along y and x.
    """

    kspace: np.ndarray
    images: np.ndarray
    counters: dict[str, int]
    pixel_size_mm: tuple[float, float]


def read_scan(path: Path, *, group: str = "dataset") -> Iterator[CoilImages]:
    """Yields the slices of a fully sampled Cartesian 2-D scan in the order of their counters.

    Averages are averaged; noise, calibration-only and navigator acquisitions are left out. Line
    ky goes to row ky + n // 2 - centre.

    Args:
        path: ISMRMRD HDF5 file.
        group: group of the dataset in it.

    Raises:
        InputError: if the file is no ISMRMRD file, is not Cartesian, 3-D or not fully sampled.
    """
    import ismrmrd

    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an ISMRMRD HDF5 file. Check the path.")
    try:
        with ismrmrd.Dataset(str(path), group, create_if_needed=False) as dataset:
            header = ismrmrd.xsd.CreateFromDocument(dataset.read_xml_header())
            acquisitions = [
                dataset.read_acquisition(number)
                for number in range(dataset.number_of_acquisitions())
            ]
    except (OSError, KeyError, LookupError, ValueError) as error:
        raise InputError(
            f"{path}: no readable ISMRMRD scan in group {group!r} ({error})."
        ) from error
    encoding = header.encoding[0]
    if encoding.trajectory.value != "cartesian":
        raise InputError(f"{path}: trajectory {encoding.trajectory.value}; expected cartesian.")
    if encoding.encodedSpace.matrixSize.z > 1:
        raise InputError(f"{path}: a 3-D scan; expected 2-D slices.")
    lines = encoding.encodedSpace.matrixSize.y
    limits = encoding.encodingLimits.kspace_encoding_step_1
    shift = lines // 2 - (limits.center if limits is not None else lines // 2)
    left_out = [getattr(ismrmrd, flag) for flag in _NO_IMAGE_FLAGS + _NAVIGATOR_FLAGS]
    groups: dict[tuple[int, ...], list[ismrmrd.Acquisition]] = defaultdict(list)
    for acquisition in acquisitions:
        if not any(acquisition.is_flag_set(flag) for flag in left_out):
            groups[tuple(getattr(acquisition.idx, name) for name in _COUNTERS)].append(acquisition)
    if not groups:
        raise InputError(f"{path}: {len(acquisitions)} acquisitions, none with image data.")
    target = encoding.reconSpace.matrixSize.x
    oversampling = encoding.encodedSpace.fieldOfView_mm.x / encoding.reconSpace.fieldOfView_mm.x
    pixel = (
        encoding.encodedSpace.fieldOfView_mm.y / lines,
        encoding.reconSpace.fieldOfView_mm.x / target,
    )
    for key in sorted(groups):
        counters = dict(zip(_COUNTERS, key, strict=True))
        kspace = _fill(groups[key], lines, shift, f"{path} {counters}")
        images = _centred(np.fft.ifft2, kspace)
        kept = round(kspace.shape[-1] / oversampling)
        first = kspace.shape[-1] // 2 - kept // 2
        images = np.ascontiguousarray(images[..., first : first + kept]).astype(np.complex64)
        cropped = kspace if kept == kspace.shape[-1] else _centred(np.fft.fft2, images)
        yield CoilImages(cropped.astype(np.complex64), images, counters, pixel)


def read_full_kspace(path: Path, *, group: str = "dataset") -> np.ndarray:
    """Returns the k-space of a scan's first slice, complex64 `coils ky kx`.

    Raises:
        InputError: as `read_scan`.
    """
    return next(read_scan(path, group=group)).kspace


def read_mrd(path: Path, *, group: str = "dataset") -> Iterator[SourceImage]:
    """Yields root-sum-of-squares magnitudes of a scan, scaled by the maximum of all its slices.

    Raises:
        InputError: as `read_scan`.
    """
    slices = list(read_scan(path, group=group))
    magnitudes = [np.sqrt(np.sum(np.abs(item.images) ** 2, axis=0)) for item in slices]
    if len({magnitude.shape for magnitude in magnitudes}) != 1:
        raise InputError(f"{path}: slices of different sizes; expected one size.")
    volume = scale_volume(np.stack(magnitudes), str(path))
    for item, magnitude in zip(slices, volume, strict=True):
        where = " ".join(f"{name} {value}" for name, value in item.counters.items())
        yield SourceImage(magnitude, path.stem, f"{path.name} {where}", item.pixel_size_mm)


def _centred(transform: Callable[..., np.ndarray], array: np.ndarray) -> np.ndarray:
    """Returns the centred orthonormal transform of the last two axes."""
    axes = (-2, -1)
    return np.fft.fftshift(transform(np.fft.ifftshift(array, axes=axes), norm="ortho"), axes=axes)


def _fill(acquisitions: list, lines: int, shift: int, origin: str) -> np.ndarray:
    """Returns the averaged k-space `coils ky kx`; every line must have been measured."""
    coils, samples = acquisitions[0].data.shape
    kspace = np.zeros((coils, lines, samples), dtype=np.complex128)
    count = np.zeros(lines, dtype=int)
    for acquisition in acquisitions:
        row = acquisition.idx.kspace_encode_step_1 + shift
        if acquisition.data.shape != (coils, samples) or not 0 <= row < lines:
            raise InputError(
                f"{origin}: line {acquisition.idx.kspace_encode_step_1} of shape "
                f"{acquisition.data.shape}; expected {(coils, samples)} and a row below {lines}."
            )
        kspace[:, row] += acquisition.data
        count[row] += 1
    if (count == 0).any():
        raise InputError(
            f"{origin}: {int((count > 0).sum())} of {lines} lines were measured; "
            "expected a fully sampled scan. Reconstruct undersampled scans instead."
        )
    return kspace / count[:, np.newaxis]
