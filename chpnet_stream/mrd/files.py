"""Scans in ISMRMRD HDF5 files: reading, in blocks and with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from chpnet_stream.errors import (
    BadSamplesError,
    EmptyScanError,
    HeaderError,
    MissingGroupError,
    NotAnMrdFileError,
    TruncatedFileError,
)
from chpnet_stream.mrd.header import ScanHeader
from chpnet_stream.mrd.promises import check_array, check_count, check_promises, check_text

BLOCK_BYTES = 8 * 2**20
"""About so much sample data is read from the file at once."""

DAMAGED = (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError)
"""What h5py raises at a damaged file, depending on where the damage is."""

_NEEDED = ("flags", "number_of_samples", "active_channels", "idx")


class ScanFile:
    """One scan in an ISMRMRD HDF5 file, opened for reading.

    Use as a context manager. The file is never written to. Iterating yields `ismrmrd.Acquisition`
    objects in file order, `items` yields waveforms (`ismrmrd.Waveform`) among them.

    Args:
        path: the HDF5 file.
        group: the HDF5 group that holds the scan.

    Raises:
        NotAnMrdFileError: no such file, a folder, not HDF5, or a group without acquisitions.
        TruncatedFileError: the file is shorter than HDF5 says, or than its records, or is still
            being written.
        MissingGroupError: no such group; the message lists those that are there.
        HeaderError: no XML header, or one that can't be read.
        EmptyScanError: no acquisitions.
    """

    def __init__(self, path: Path | str, group: str = "dataset") -> None:
        self.path = Path(path)
        self.group = group
        self._file = _open(self.path)
        self._size = self.path.stat().st_size
        try:
            with self._reading(f"/{group}"):
                self._group = self._find_group()
                xml = self._xml()
                self._data = self._dataset("data")
                check_count(self._data, self.path)
                self._waveforms = self._waveform_records()
                self.number_of_acquisitions = int(self._data.shape[0])
            self.header = ScanHeader.from_xml(xml)
            if self.number_of_acquisitions == 0:
                raise EmptyScanError(
                    f"{self.path}: /{group}/data has 0 acquisitions, expected at least one"
                )
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> ScanFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self.number_of_acquisitions

    def __iter__(self) -> Iterator[Any]:
        return self.acquisitions()

    @property
    def number_of_waveforms(self) -> int:
        """Waveforms stored beside the acquisitions."""
        return 0 if self._waveforms is None else int(self._waveforms.shape[0])

    def stored_array(self, name: str) -> Any:
        """An array that lies beside the acquisitions in the group; None where there is none.

        Raises:
            TruncatedFileError: It can't be read, or promises more than there is.
        """
        import h5py

        with self._reading(f"/{self.group}/{name}"):
            found = self._group.get(name)
            if not isinstance(found, h5py.Dataset):
                return None
            check_array(found, self.path)
            return found[()]

    def copy_waveforms(self, group: Any) -> int:
        """Copy the waveforms as they are into another file's HDF5 group; returns their number.

        Raises:
            TruncatedFileError: they can't be read.
            OSError: they can't be written.
        """
        if self._waveforms is None:
            return 0
        import h5py

        with self._reading("the waveforms", (RuntimeError,)):
            h5py.h5o.copy(self._group.id, b"waveforms", group.id, b"waveforms")
        return self.number_of_waveforms

    def close(self) -> None:
        """Close the file; closing twice is no error."""
        self._file.close()

    def heads(self, block: int = 4096) -> Iterator[np.ndarray]:
        """Acquisition headers only, as structured arrays of up to `block` (ISMRMRD field names)."""
        for start in range(0, self.number_of_acquisitions, block):
            stop = min(start + block, self.number_of_acquisitions)
            yield self._converted(self._read(self._data, start, stop, "head"))

    def acquisitions(self, check: bool = True) -> Iterator[Any]:
        """All acquisitions in file order, as `ismrmrd.Acquisition`, data complex64 `coils samples`.

        Args:
            check: refuse samples that are NaN or infinite.

        Raises:
            TruncatedFileError: the file can't be read on, or an acquisition is shorter or longer
                than its header says.
            BadSamplesError: NaN or infinite samples, with the number of the acquisition.
        """
        import ismrmrd

        head_type = ismrmrd.AcquisitionHeader
        for start, block in self._blocks(self._data, self._block_length()):
            heads = self._converted(block["head"]).tobytes()
            size = len(heads) // len(block)
            for i in range(len(block)):
                head = head_type.from_buffer_copy(heads, i * size)
                number = start + i
                data = self._samples(block["data"][i], head, number)
                if check and not np.isfinite(data.view(np.float32).sum()):
                    self._refuse_bad_samples(data, head, number)
                traj = self._trajectory(block["traj"][i], head)
                yield ismrmrd.Acquisition(head, data, traj)

    def waveforms(self) -> Iterator[Any]:
        """All waveforms in file order, as `ismrmrd.Waveform`, data uint32 `channels samples`."""
        import ismrmrd
        from ismrmrd.hdf5 import waveform_header_dtype

        if self._waveforms is None:
            return
        for start, block in self._blocks(self._waveforms, 256):
            for i in range(len(block)):
                head = np.zeros(1, dtype=waveform_header_dtype)
                _copy_fields(block["head"][i : i + 1], head)
                waveform = ismrmrd.Waveform(head)
                values = np.ascontiguousarray(block["data"][i]).view(np.uint32)
                if values.size != waveform.channels * waveform.number_of_samples:
                    raise TruncatedFileError(
                        f"{self.path}: waveform {start + i} has {values.size} values, expected "
                        f"{waveform.channels} channels x {waveform.number_of_samples}"
                    )
                waveform.data[:] = values.reshape(waveform.channels, waveform.number_of_samples)
                yield waveform

    def items(self, check: bool = True) -> Iterator[Any]:
        """Acquisitions, with the waveforms put in between by time; each kind keeps its order.

        A waveform comes before the first acquisition whose acquisition_time_stamp is not smaller
        than the waveform's time_stamp; without time stamps, its scan_counter (by the standard, the
        acquisition that follows it) decides.
        """
        waiting = self.waveforms()
        waveform = next(waiting, None)
        for acquisition in self.acquisitions(check):
            while waveform is not None and _precedes(waveform, acquisition):
                yield waveform
                waveform = next(waiting, None)
            yield acquisition
        while waveform is not None:
            yield waveform
            waveform = next(waiting, None)

    def _find_group(self) -> Any:
        import h5py

        found = self._file.get(self.group)
        if isinstance(found, h5py.Group):
            return found
        groups = sorted(name for name, item in self._file.items() if isinstance(item, h5py.Group))
        if groups:
            there = f"it has: {', '.join(groups)}; choose one with --group"
        else:
            others = ", ".join(sorted(self._file)[:5])
            there = f"it has no groups, but {others}" if others else "it is empty"
            there += "; expected an ISMRMRD file, convert it first"
        raise MissingGroupError(f"{self.path} has no group '{self.group}', {there}")

    def _dataset(self, name: str) -> Any:
        import h5py

        found = self._group.get(name)
        fields = found.dtype.names if isinstance(found, h5py.Dataset) else None
        if fields is None or not {"head", "data", "traj"} <= set(fields):
            there = ", ".join(sorted(self._group)) or "nothing"
            raise NotAnMrdFileError(
                f"{self.path}: /{self.group} has no ISMRMRD acquisitions ('{name}' with head, "
                f"traj, data), it has: {there}; choose the group of a raw scan"
            )
        if any(found.dtype[field].kind != "O" for field in ("data", "traj")):
            raise NotAnMrdFileError(
                f"{self.path}: samples of /{self.group}/{name} are no arrays of variable length, "
                "expected ISMRMRD 1.x; convert the file again with a current converter"
            )
        missing = [field for field in _NEEDED if field not in found.dtype["head"].names]
        if missing:
            raise NotAnMrdFileError(
                f"{self.path}: acquisition headers lack {', '.join(missing)}, expected ISMRMRD "
                "1.x; convert the file again with a current converter"
            )
        return found

    def _waveform_records(self) -> Any:
        """The records of waveforms; None where there are none."""
        if "waveforms" not in self._group:
            return None
        import h5py

        found = self._group["waveforms"]
        fields = found.dtype.names if isinstance(found, h5py.Dataset) else None
        if fields is None or not {"head", "data"} <= set(fields):
            raise NotAnMrdFileError(
                f"{self.path}: /{self.group}/waveforms are no ISMRMRD waveforms, expected records "
                "with head and data; convert the file again, or leave them out"
            )
        check_count(found, self.path)
        return found

    def _xml(self) -> bytes:
        import h5py

        if "xml" not in self._group:
            there = ", ".join(sorted(self._group)) or "nothing"
            raise HeaderError(
                f"{self.path}: /{self.group} has no XML header 'xml', it has: {there}; "
                "choose the group of a raw scan or convert the file again"
            )
        with self._reading("the XML header"):
            xml = self._group["xml"]
            if not isinstance(xml, h5py.Dataset):
                raise HeaderError(f"{self.path}: /{self.group}/xml is no text; convert it again")
            check_text(xml, self._size, self.path)
            # The first one alone: a damaged file may promise millions of them.
            value = xml[(0,) * xml.ndim] if getattr(xml, "size", 0) else b""
        if isinstance(value, str):
            return value.encode("utf-8")
        if not isinstance(value, bytes):
            raise HeaderError(f"{self.path}: /{self.group}/xml is no text; convert the file again")
        return value

    def _block_length(self) -> int:
        head = self._read(self._data, 0, 1, "head")[0]
        size = 8 * int(head["number_of_samples"]) * int(head["active_channels"])
        return max(1, min(1024, BLOCK_BYTES // max(size, 1)))

    def _blocks(self, dataset: Any, length: int) -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, int(dataset.shape[0]), length):
            yield start, self._read(dataset, start, min(start + length, int(dataset.shape[0])))

    def _read(self, dataset: Any, start: int, stop: int, field: str | None = None) -> np.ndarray:
        with self._reading(f"acquisitions {start} to {stop - 1}"):
            check_promises(dataset, start, stop, self._size, self.path)
            return (dataset if field is None else dataset.fields(field))[start:stop]

    @contextmanager
    def _reading(self, what: str, errors: tuple[type[Exception], ...] = DAMAGED) -> Iterator[None]:
        """Tells what h5py says of a damaged file as an error of ours.

        Raises:
            TruncatedFileError: In place of `errors`.
        """
        try:
            yield
        except errors as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise TruncatedFileError(
                f"{self.path}: can't read {what} ({reason}); the file is cut off or damaged, "
                "copy it again"
            ) from error

    def _converted(self, heads: np.ndarray) -> np.ndarray:
        """Headers in the package's packed layout, field by field (files differ in alignment)."""
        from ismrmrd.hdf5 import acquisition_header_dtype as packed

        if heads.dtype == packed:
            return heads
        out = np.zeros(heads.shape, dtype=packed)
        with self._reading("the headers of acquisitions"):
            _copy_fields(heads, out)
        return out

    def _samples(self, raw: Any, head: Any, number: int) -> np.ndarray:
        coils, samples = head.active_channels, head.number_of_samples
        values = np.ascontiguousarray(raw).view(np.complex64) if len(raw) % 2 == 0 else raw
        if values.size != coils * samples or values.dtype != np.complex64:
            raise TruncatedFileError(
                f"{self.path}: acquisition {number} has {len(raw)} values, expected {coils} coils "
                f"x {samples} samples x 2 = {2 * coils * samples}; the file is damaged or packed"
            )
        return values.reshape(coils, samples)

    def _trajectory(self, raw: Any, head: Any) -> np.ndarray:
        shape = (head.number_of_samples, head.trajectory_dimensions)
        values = np.asarray(raw, dtype=np.float32)
        if values.size != shape[0] * shape[1]:
            return np.zeros(shape, dtype=np.float32)
        return values.reshape(shape)

    def _refuse_bad_samples(self, data: np.ndarray, head: Any, number: int) -> None:
        bad = np.argwhere(~np.isfinite(data))
        if len(bad) == 0:  # finite, only their sum was not
            return
        coil, sample = bad[0]
        raise BadSamplesError(
            f"{self.path}: acquisition {number} (slice {head.idx.slice}, line "
            f"{head.idx.kspace_encode_step_1}) has {len(bad)} NaN or infinite samples, first in "
            f"coil {coil} at sample {sample}; expected finite numbers, convert or acquire it again"
        )


def _copy_fields(source: np.ndarray, target: np.ndarray) -> None:
    for name in target.dtype.names or ():
        if name not in (source.dtype.names or ()):
            continue
        if target.dtype[name].names:
            _copy_fields(source[name], target[name])
        else:
            target[name] = source[name]


def _precedes(waveform: Any, acquisition: Any) -> bool:
    if waveform.time_stamp and acquisition.acquisition_time_stamp:
        return bool(waveform.time_stamp <= acquisition.acquisition_time_stamp)
    return bool(waveform.scan_counter <= acquisition.scan_counter)


def _open(path: Path) -> Any:
    import h5py

    try:
        there, folder = path.exists(), path.is_dir()
    except OSError as error:  # a folder on the way that may not be looked into, a name too long
        raise NotAnMrdFileError(f"{path} can't be read: {error.strerror or error}") from error
    if not there:
        raise NotAnMrdFileError(f"no file {path}; give the path of an ISMRMRD HDF5 file")
    if folder:
        raise NotAnMrdFileError(f"{path} is a folder, expected an ISMRMRD HDF5 file")
    try:
        return h5py.File(path, "r")
    except PermissionError as error:
        raise NotAnMrdFileError(f"{path} can't be read: permission denied") from error
    except OSError as error:
        reason = str(error).splitlines()[0]
        if "unable to lock file" in reason:
            raise TruncatedFileError(
                f"{path} is being written by another program ({reason}); wait until that has "
                "closed it, or, in a network folder that knows no locks, set "
                "HDF5_USE_FILE_LOCKING=FALSE"
            ) from error
        with path.open("rb") as file:
            signature = file.read(8)
        if signature == b"\x89HDF\r\n\x1a\n":
            raise TruncatedFileError(
                f"{path} is HDF5 but cut off or damaged ({reason}); copy or convert it again"
            ) from error
        raise NotAnMrdFileError(
            f"{path} is not HDF5 (it begins with {signature!r}); expected an ISMRMRD file "
            "(.h5, .mrd); a scanner's own raw data are converted first (siemens_to_ismrmrd, "
            "ge_to_ismrmrd, philips_to_ismrmrd ...)"
        ) from error
