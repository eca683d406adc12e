"""What the records of an ISMRMRD file promise, looked at before HDF5 takes memory for it.

Samples lie in the file as arrays of variable length. For a damaged length HDF5 takes up to 16 GiB
for one record, even where only its header is asked for; so the length is read first, as it lies
there, and compared with the number of samples and channels beside it, and with the whole file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from chpnet_stream.errors import TruncatedFileError
from chpnet_stream.mrd.header_xml import MAX_XML_BYTES
from chpnet_stream.mrd.wire.limits import WireLimits
from chpnet_stream.size_limits import VARIABLE

MOST_SMALLER = 2000
"""So much smaller, at most, compressed records lie in the file than they are (zlib's: 1032)."""

VALUE_BYTES = 4
ARRAYS = {"traj": "trajectory values", "data": "values"}


def check_count(dataset: Any, path: Path) -> None:
    """Refuse a list of records that is longer than what lies in the file for it.

    What was never written costs nothing in a file: a few kilobytes may promise 10^18 records.

    Args:
        dataset: Acquisitions or waveforms (`h5py.Dataset`).
        path: The file, for the message.

    Raises:
        TruncatedFileError: As said; or the records are no list, or lie in other files.
    """
    if dataset.ndim != 1:
        raise TruncatedFileError(
            f"{path}: {dataset.name} has {dataset.ndim} axes, expected one list of records; the "
            "file is damaged, copy or convert it again"
        )
    if dataset.is_virtual or dataset.external:
        raise TruncatedFileError(
            f"{path}: {dataset.name} lies in other files, expected one file with everything; copy "
            "it together, for example with h5repack"
        )
    here = _most_bytes(dataset) // dataset.dtype.itemsize
    if len(dataset) > here:
        raise TruncatedFileError(
            f"{path}: {dataset.name} promises {len(dataset):,} records, found room for {here:,}; "
            "the file is cut off or damaged, copy or convert it again"
        )


def check_array(dataset: Any, path: Path) -> None:
    """Refuse an array that is larger than what lies in the file for it.

    Args:
        dataset: Numbers (`h5py.Dataset`).
        path: The file, for the message.

    Raises:
        TruncatedFileError: As said.
    """
    promised = dataset.size * dataset.dtype.itemsize
    if promised > _most_bytes(dataset):
        raise TruncatedFileError(
            f"{path}: {dataset.name} promises {promised:,} bytes, found "
            f"{dataset.id.get_storage_size():,}; the file is cut off or damaged, copy it again"
        )


def check_promises(dataset: Any, start: int, stop: int, size: int, path: Path) -> None:
    """Refuse records that promise more than there can be.

    Looks at files as the ISMRMRD libraries write them, with one uncompressed record in a chunk; of
    others HDF5's own checks are all there is.

    Args:
        dataset: Acquisitions or waveforms (`h5py.Dataset`).
        start: First record.
        stop: The one behind the last.
        size: Bytes of the file.
        path: The file, for the message.

    Raises:
        TruncatedFileError: A record's samples are more than its header says, or its arrays larger
            than the file, or than the limit `item_bytes` (`WireLimits`).
    """
    if dataset.chunks != (1,) or dataset.id.get_create_plist().get_nfilters():
        return
    records = dataset.dtype.fields
    heads, offset = records["head"]
    limit = WireLimits.configured().item_bytes
    most_values = min(limit, size) // VALUE_BYTES
    for number in range(start, stop):
        _, raw = dataset.id.read_direct_chunk((number,))
        if len(raw) < dataset.dtype.itemsize:
            raise _damaged(path, number, f"{len(raw)} bytes", f"{dataset.dtype.itemsize} bytes")
        head = np.frombuffer(raw, heads, 1, offset)[0]
        for name, what in ARRAYS.items():
            if name not in records:
                continue
            most = min(most_values, _values(head)) if name == "data" else most_values
            (length,) = np.frombuffer(raw, "<u4", 1, records[name][1])
            if most == limit // VALUE_BYTES < length <= size // VALUE_BYTES:
                raise _too_large(path, number, int(length) * VALUE_BYTES, limit)
            if length > most:
                raise _damaged(path, number, f"{length} {what}", f"at most {most}")


def check_text(dataset: Any, size: int, path: Path) -> None:
    """Refuse a text that promises to be larger than its file, or than `MAX_XML_BYTES`.

    Args:
        dataset: Texts of variable length; of them the first is looked at.
        size: Bytes of the file.
        path: The file.

    Raises:
        TruncatedFileError: As said.
    """
    if dataset.dtype.kind != "O":
        length = dataset.dtype.itemsize
    elif dataset.chunks is not None:
        if dataset.id.get_create_plist().get_nfilters():
            return
        _, raw = dataset.id.read_direct_chunk((0,) * dataset.ndim)
        length = int.from_bytes(raw[:VALUE_BYTES], "little")
    else:
        offset = dataset.id.get_offset()
        if offset is None:  # kept beside its description, or nowhere
            return
        with path.open("rb") as file:
            file.seek(offset)
            length = int.from_bytes(file.read(VALUE_BYTES), "little")
    if length > min(size, MAX_XML_BYTES):
        raise TruncatedFileError(
            f"{path}: the XML header promises {length} bytes, expected at most "
            f"{min(size, MAX_XML_BYTES)}; the file is damaged, copy or convert it again"
        )


def _most_bytes(dataset: Any) -> int:
    """What may come of the bytes that lie in the file for a dataset."""
    compressed = bool(dataset.id.get_create_plist().get_nfilters())
    return int(dataset.id.get_storage_size()) * (MOST_SMALLER if compressed else 1)


def _values(head: Any) -> int:
    """Values that belong to an acquisition (complex samples are two) or a waveform."""
    samples = int(head["number_of_samples"])
    if "active_channels" in head.dtype.names:
        return 2 * samples * int(head["active_channels"])
    return samples * int(head["channels"])


def _too_large(path: Path, number: int, found: int, limit: int) -> TruncatedFileError:
    return TruncatedFileError(
        f"{path}: record {number} has {found:,} bytes of samples, expected at most {limit:,}; "
        f"where that is no damage, set {VARIABLE}=item_bytes=..."
    )


def _damaged(path: Path, number: int, found: str, expected: str) -> TruncatedFileError:
    return TruncatedFileError(
        f"{path}: record {number} promises {found}, expected {expected} by its header; the file is "
        "damaged, copy or convert it again"
    )
