"""Fully sampled two-dimensional ISMRMRD scans, put together by the product's own assembler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chpnet_stream.errors import ChpnetError, InputError, UnsupportedScanError
from chpnet_training.readers.image import SourceImage, checked_peak
from chpnet_training.readers.raw import measured_block, virtual_coils

if TYPE_CHECKING:
    from chpnet_stream.mrd.files import ScanFile
    from chpnet_stream.scan.slices import Slice

_DAMAGED = (OSError, KeyError, RuntimeError, ValueError, TypeError)
_COUNTERS = ("slice", "contrast", "phase", "repetition", "set")


def read_mrd(path: Path, *, group: str | None = None, kspace: bool = True) -> Iterator[SourceImage]:
    """Yields the slices of a scan: root-sum-of-squares magnitudes and virtual coils' k-space.

    Whitened by the scan's noise acquisitions; without any, by a noise level estimated from the
    first slice. Magnitudes are scaled by the maximum of all slices, for which the file is read
    twice, so that memory does not grow with the number of slices.

    Args:
        path: ISMRMRD HDF5 file.
        group: group of the scan in it; by default the first that holds one.
        kspace: whether to hand on the k-space.

    Raises:
        InputError: if the file is no readable scan, is not Cartesian, 3-D or not fully sampled.
    """
    group = group or _first_group(path)
    peaks = [_magnitude(white).max() for _, white in _white_slices(path, group)]
    peak = checked_peak(np.array(peaks), str(path))
    subject = _patient(path, group)
    for data, white in _white_slices(path, group):
        where = " ".join(f"{name} {data.counters[name]}" for name in _COUNTERS)
        space, lines = data.encoding, white.shape[1]
        pixel = (
            space.encoded.field_of_view_mm[1] / lines,
            space.encoded.field_of_view_mm[0] / space.encoded.matrix[0],
        )
        yield SourceImage(
            _magnitude(white) / np.float32(peak),
            subject or path.stem,
            f"{path.name} {where}",
            pixel if min(pixel) > 0 else None,
            private=subject is not None,
            kspace=virtual_coils(white) if kspace else None,
        )


def read_full_kspace(path: Path, *, group: str = "dataset") -> np.ndarray:
    """Returns the k-space of a scan's first slice as measured, complex64 `coils ky kx`.

    Averages are averaged, the readout oversampling is removed, nothing is whitened.

    Raises:
        InputError: as `read_mrd`.
    """
    with _opened(path, group) as scan:
        return next(_slices(scan, path))[1]


def _first_group(path: Path) -> str:
    """Name of the file's first group with a header; "dataset" where there is none."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            groups = [name for name, item in file.items() if isinstance(item, h5py.Group)]
            return next((name for name in groups if "xml" in file[name]), "dataset")
    except _DAMAGED:
        return "dataset"  # `ScanFile` says what is wrong with the file


def _opened(path: Path, group: str) -> ScanFile:
    from chpnet_stream.mrd.files import ScanFile

    with _naming(path):
        scan = ScanFile(path, group)
    try:
        with _naming(path):
            scan.header.check()
            if all(encoding.is_3d for encoding in scan.header.encodings):
                raise UnsupportedScanError("a 3-D scan; expected 2-D slices")
    except InputError:
        scan.close()
        raise
    return scan


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Puts the file's name into errors that lack it, and makes one of what HDF5 raises."""
    try:
        yield
    except ChpnetError as error:
        if str(path) in str(error):
            raise
        raise InputError(f"{path}: {error}") from error
    except _DAMAGED as error:
        reason = str(error).strip("'").splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: can't be read as a scan ({reason}); copy or convert it again"
        ) from error


def _slices(scan: ScanFile, path: Path) -> Iterator[tuple[Slice, np.ndarray]]:
    """Slices in the order in which they are complete, and their measured k-space `coils ky kx`."""
    from chpnet_stream.scan.slices import SliceAssembler

    assembler = SliceAssembler(scan.header)
    found = False
    with _naming(path):
        for data in assembler.assemble(scan.acquisitions()):
            found = True
            yield data, _complete(data, path)
    if not found:
        raise InputError(
            f"{path}: {scan.number_of_acquisitions} acquisitions, none with image data; "
            "expected a fully sampled scan"
        )


def _complete(data: Slice, path: Path) -> np.ndarray:
    """The slice's k-space without the empty outer lines of its matrix.

    Raises:
        InputError: if lines are missing between, or parts of the readouts.
    """
    where = f"{path} slice {data.counters['slice']}"
    lines = measured_block(data.sampled > 0)
    if lines is None:
        raise InputError(
            f"{where}: {int((data.sampled > 0).sum())} of {len(data.sampled)} lines were measured; "
            "expected a fully sampled scan. Reconstruct undersampled scans instead."
        )
    if data.echo_samples != (0, data.kspace.shape[-1]):
        first, last = data.echo_samples
        raise InputError(
            f"{where}: samples {first} to {last - 1} of {data.kspace.shape[-1]} of each readout "
            "were measured; expected whole readouts. Leave out scans with asymmetric echoes."
        )
    return np.ascontiguousarray(data.kspace[:, lines])


def _white_slices(path: Path, group: str) -> Iterator[tuple[Slice, np.ndarray]]:
    """Slices and their k-space `coils ky kx` with noise of unit variance (of a complex sample)."""
    import torch

    from chpnet_stream.calibrate import CoilCalibration
    from chpnet_stream.mrd import flags
    from chpnet_stream.scan.noise import NoiseScan

    with _opened(path, group) as scan, _naming(path):
        noise = NoiseScan(scan.header.noise_bandwidth)
        for acquisition in scan.acquisitions():
            if int(acquisition.flags) & flags.NOISE:
                noise.add(acquisition)
            elif flags.is_image(int(acquisition.flags)):
                break  # noise comes first; what came later would change the scale
        calibration = CoilCalibration(noise, torch.device("cpu"))
        for data, kspace in _slices(scan, path):
            whitening = calibration.whitening(data).numpy()
            averages = int(data.sampled[data.sampled > 0].min())
            with np.errstate(over="ignore", invalid="ignore"):  # the peak is checked
                white = np.einsum("dc,cyx->dyx", whitening, kspace, optimize=True)
                white = (white * np.float32(np.sqrt(averages))).astype(np.complex64)
            yield data, white


def _magnitude(kspace: np.ndarray) -> np.ndarray:
    """Root sum of squares `y x` of the coil images, float32."""
    import torch

    from chpnet_stream.physics.coils import root_sum_of_squares
    from chpnet_stream.physics.fourier import ifft

    return root_sum_of_squares(ifft(torch.from_numpy(kspace))).numpy().astype(np.float32)


def _patient(path: Path, group: str) -> str | None:
    """The patient's identifier in the header, None where there is none."""
    import xml.etree.ElementTree as ET

    with _opened(path, group) as scan:
        root = ET.fromstring(scan.header.xml)  # noqa: S314
    for element in root.iter():
        if element.tag.rpartition("}")[2] == "patientID" and (element.text or "").strip():
            return str(element.text).strip()
    return None
