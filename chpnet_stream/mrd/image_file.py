"""Images in ISMRMRD HDF5 files: written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from chpnet_stream.errors import ConfigurationError, OutputError
from chpnet_stream.mrd.hdf5_disk import Hdf5Disk
from chpnet_stream.whole_file import check_target, hidden_name

if TYPE_CHECKING:
    from chpnet_stream.mrd.files import ScanFile

UINT16_TOP = 32767
"""Largest stored value of uint16 images (below 2^15, so that readers with signed pixels agree)."""

_DTYPES = {"float32": np.float32, "complex64": np.complex64, "uint16": np.uint16}
_PARTS = {np.dtype(np.complex64): "<f4", np.dtype(np.complex128): "<f8"}
"""How the ISMRMRD library stores complex pixels: real and imaginary parts of this type."""


@dataclass
class _Series:
    """What is known of one series while it is being written."""

    shape: tuple[int, ...]
    kind: np.dtype
    stored: int = 0
    capacity: int = 0
    group: Any = None
    spool: Any = None
    bottom: float = 0.0
    top: float = 0.0
    heads: list[np.ndarray] = field(default_factory=list)
    metas: list[dict[str, Any]] = field(default_factory=list)


class ImageFile:
    """Writes images to `/<group>/image_<series>` of a new ISMRMRD file.

    Everything goes to a hidden file in the same folder, which takes the final name only when the
    `with` block ends without an error; after an error nothing is left behind. Images are read back
    with `ismrmrd.Dataset(path, group).read_image("image_1", n)`.

    Args:
        path: the file to make.
        group: HDF5 group for the header and the images.
        xml: ISMRMRD XML header of the scan, stored unchanged.
        dtype: None stores images as they come (float32 or complex64); "uint16" stores real
            images as unsigned integers, with one scale for the whole series: a stored value s
            stands for `RescaleSlope * s + RescaleIntercept`, both in the meta.
        overwrite: replace an existing file.
        as_received: store images of a peer: pixels of any type, meta unchanged; where one series
            has several shapes, in `image_<series>_2` and so on.

    Raises:
        OutputExistsError: the file exists and `overwrite` is not set.
        OutputError: the folder does not exist or can't be written to.
        ConfigurationError: unknown dtype.
    """

    def __init__(
        self,
        path: Path | str,
        group: str = "dataset",
        xml: bytes | str | None = None,
        dtype: str | None = None,
        overwrite: bool = False,
        as_received: bool = False,
    ) -> None:
        if dtype not in (None, *_DTYPES):
            raise ConfigurationError(
                f"image dtype '{dtype}' is not known, expected one of {', '.join(_DTYPES)}"
            )
        self.path = Path(path)
        self.group = group
        self._xml = xml.encode("utf-8") if isinstance(xml, str) else xml
        self._dtype = dtype
        self._overwrite = overwrite
        self._as_received = as_received
        self._series: dict[Any, _Series] = {}
        self._disk: Any = None
        self._file: Any = None
        self._check_target()
        self._temporary = hidden_name(self.path)

    def __enter__(self) -> ImageFile:
        import h5py

        try:
            self._disk = Hdf5Disk(self._temporary)
        except OSError as error:
            raise OutputError(
                f"can't write to folder {self.path.parent}: {error.strerror or error}; choose "
                "another one with -o"
            ) from error
        self._file = h5py.File(self._disk, "w")
        self._group = self._file.require_group(self.group)
        if self._xml is not None:
            xml = self._group.create_dataset("xml", (1,), dtype=h5py.special_dtype(vlen=bytes))
            xml[0] = self._xml
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                for series in self._series.values():
                    self._finish(series)
                self._file.close()
                self._disk.check()
                self._check_target()
                os.replace(self._temporary, self.path)  # noqa: PTH105  (atomic on every system)
        except OSError as failure:
            raise OutputError(
                f"can't write {self.path}: {failure.strerror or failure}"
            ) from failure
        finally:
            spools = [series.spool for series in self._series.values() if series.spool is not None]
            for opened in (self._file, self._disk, *spools):
                with suppress(OSError):  # what a spool still has to write, on a full disk
                    opened.close()
            self._temporary.unlink(missing_ok=True)

    def save_incomplete(self) -> Path:
        """Take the name NAME_incomplete at the end instead; returns that path.

        Where there is such a file already, and none may be replaced, a number goes behind it.
        """
        stem, number = f"{self.path.stem}_incomplete", 1
        path = self.path.with_name(f"{stem}{self.path.suffix}")
        while path.exists() and not self._overwrite:
            number += 1
            path = self.path.with_name(f"{stem}_{number}{self.path.suffix}")
        self.path = path
        return path

    def keep_waveforms(self, scan: ScanFile) -> int:
        """Copy the waveforms of the scan beside its images; returns their number.

        Raises:
            TruncatedFileError: they can't be read.
            OutputError: the disk is full.
        """
        try:
            count = scan.copy_waveforms(self._group)
            self._disk.check()
        except OSError as error:
            raise OutputError(f"can't write {self.path}: {error.strerror or error}") from error
        return count

    @property
    def count(self) -> int:
        """Images written so far, in all series."""
        return sum(series.stored for series in self._series.values())

    def append(self, image: Any) -> None:
        """Add an `ismrmrd.Image` to the series that its `image_series_index` names.

        Raises:
            OutputError: another shape or type than the images before it in the series, or the
                disk is full.
        """
        data = _stored_pixels(image)
        number = int(image.image_series_index)
        key: Any = (number, data.shape, data.dtype) if self._as_received else number
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._begin(number, data)
        if data.shape != series.shape or data.dtype != series.kind:
            raise OutputError(
                f"image {series.stored} of series {number} is {data.dtype} {data.shape}, expected "
                f"{series.kind} {series.shape} (channels z y x) like those before; use a new series"
            )
        try:
            if series.spool is None:
                self._store(series, image.getHead(), self._attributes(image), data)
            else:
                series.spool.write(np.ascontiguousarray(data).tobytes())
                series.top = float(np.max(data, initial=series.top))
                series.bottom = float(np.min(data, initial=series.bottom))
                series.heads.append(_head_record(image.getHead()))
                series.metas.append(dict(image.meta))
                series.stored += 1
            self._disk.check()
        except OSError as error:
            raise OutputError(f"can't write {self.path}: {error.strerror or error}") from error

    def _check_target(self) -> None:
        check_target(self.path, overwrite=self._overwrite)

    def _attributes(self, image: Any) -> str:
        """The meta as text; those of a received image as they came."""
        raw = getattr(image, "unchanged", None) if self._as_received else None
        if raw is not None:
            return str(raw.rstrip(b"\0").decode("utf-8", "replace"))
        return _meta_xml(dict(image.meta))

    def _begin(self, number: int, data: np.ndarray) -> _Series:
        if not self._as_received and data.dtype not in (np.float32, np.complex64):
            raise OutputError(f"images of type {data.dtype}: expected float32 or complex64")
        series = _Series(data.shape, data.dtype)
        stored = data.dtype
        if self._dtype == "uint16":
            if data.dtype != np.float32:
                raise OutputError("complex images can't be stored as uint16; store magnitudes")
            stored = np.dtype(np.uint16)
            series.spool = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115
        name = f"image_{number}"
        others = sum(existing.startswith(name + "_") for existing in self._group)
        if name in self._group:
            name = f"{name}_{others + 2}"
        series.group = _image_group(self._group, name, data.shape, stored)
        return series

    def _store(self, series: _Series, head: Any, text: str, data: np.ndarray) -> None:
        if series.stored == series.capacity:
            series.capacity = max(8, 2 * series.capacity)
            for name in ("header", "attributes", "data"):
                series.group[name].resize(series.capacity, axis=0)
        at = series.stored
        record = head if isinstance(head, np.ndarray) else _head_record(head)
        record["attribute_string_len"] = len(text.encode("utf-8"))
        series.group["header"][at] = record[0]
        series.group["attributes"][at] = text
        if data.dtype in _PARTS:
            data = np.ascontiguousarray(data).view(_compound(data.dtype))
        series.group["data"][at] = data.reshape(series.shape)
        series.stored += 1

    def _finish(self, series: _Series) -> None:
        if series.spool is not None:
            self._quantise(series)
        for name in ("header", "attributes", "data"):
            series.group[name].resize(series.stored, axis=0)

    def _quantise(self, series: _Series) -> None:
        """Store the spooled images as uint16, all with the slope that the largest value needs."""
        import ismrmrd

        slope = (series.top - series.bottom) / UINT16_TOP or 1.0
        series.spool.seek(0)
        size = int(np.prod(series.shape)) * 4
        heads, metas, series.stored = series.heads, series.metas, 0
        for head, meta in zip(heads, metas, strict=True):
            values = np.frombuffer(series.spool.read(size), dtype=np.float32)
            stored = np.clip(np.rint((values - series.bottom) / slope), 0, UINT16_TOP).astype(
                np.uint16
            )
            head["data_type"] = ismrmrd.DATATYPE_USHORT
            tell_scale(meta, slope, series.bottom)
            self._store(series, head, _meta_xml(meta), stored)


def tell_scale(meta: Any, slope: float, intercept: float = 0.0) -> None:
    """Tell in the meta of an image that a stored value s stands for ``slope * s + intercept``.

    RescaleSlope and RescaleIntercept lead back, and WindowCenter and WindowWidth stay in units of
    the rescaled pixels, as DICOM has it. Gadgetron's GADGETRON_WindowCenter and -Width are in
    units of the stored ones, beside GADGETRON_ScaleRatio.

    Args:
        meta: A mapping of names to values (`ismrmrd.Meta`), which is changed.
        slope: Above zero.
        intercept: Value of the stored zero.
    """
    meta["RescaleSlope"] = f"{slope:.9g}"
    meta["RescaleIntercept"] = f"{intercept:.9g}"
    meta["GADGETRON_ScaleRatio"] = f"{1 / slope:.9g}"
    for name, zero in (("GADGETRON_WindowCenter", intercept), ("GADGETRON_WindowWidth", 0.0)):
        if name in meta:
            meta[name] = str(round((float(meta[name]) - zero) / slope))


def _head_record(head: Any) -> np.ndarray:
    from ismrmrd.hdf5 import image_header_dtype

    return np.frombuffer(bytes(head), dtype=image_header_dtype).copy()


def _meta_xml(meta: dict[str, Any]) -> str:
    import ismrmrd

    return str(ismrmrd.Meta(meta).serialize())


def _compound(dtype: np.dtype) -> np.dtype:
    part = _PARTS[dtype]
    return np.dtype([("real", part), ("imag", part)])


def _stored_pixels(image: Any) -> np.ndarray:
    """Pixels in the type that the header names (the ismrmrd package has int32 as int64)."""
    data = np.asarray(image.data)
    return data.astype(np.int32) if data.dtype == np.int64 else data


def _image_group(parent: Any, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """Empty, growing datasets in the layout of the ISMRMRD library."""
    import h5py
    from ismrmrd.hdf5 import image_header_dtype

    if dtype in _PARTS:
        dtype = _compound(dtype)
    group = parent.create_group(name)
    group.create_dataset("header", (0,), dtype=image_header_dtype, maxshape=(None,), chunks=(16,))
    text = h5py.special_dtype(vlen=str)
    group.create_dataset("attributes", (0,), dtype=text, maxshape=(None,), chunks=(16,))
    group.create_dataset(
        "data", (0, *shape), dtype=dtype, maxshape=(None, *shape), chunks=(1, *shape)
    )
    return group
