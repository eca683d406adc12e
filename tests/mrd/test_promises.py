"""Damaged lengths in HDF5 files are refused before memory is taken for them."""

import resource
import shutil
import struct
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from chpnet_stream.errors import InputError, TruncatedFileError
from chpnet_stream.mrd.files import ScanFile
from tests.sessions import simulated

HUGE = 2**32 - 5


def damage(path: Path, offset: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(struct.pack("<I", length))


def chunk_of(path: Path, number: int, field: str) -> int:
    """Where in the file the length of an array of a record stands."""
    with h5py.File(path) as file:
        data = file["dataset/data"]
        chunk = data.id.get_chunk_info_by_coord((number,))
        return int(chunk.byte_offset) + data.dtype.fields[field][1]


def read(path: Path) -> None:
    with ScanFile(path) as scan:
        for _ in scan.items():
            pass


def refused(path: Path, says: str) -> None:
    """Refused at once, without growing."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TruncatedFileError, match=says):
        read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 100 * 1024  # kB


@pytest.fixture
def copy(small_scan: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(small_scan, tmp_path / "copy.h5"))


@pytest.mark.parametrize(("field", "what"), [("data", "values"), ("traj", "trajectory values")])
@pytest.mark.parametrize("number", [0, 7])
def test_records(copy: Path, field: str, what: str, number: int) -> None:
    read(copy)
    damage(copy, chunk_of(copy, number, field), HUGE)
    refused(copy, rf"record {number} promises {HUGE} {what}, expected at most")


def test_a_little_too_much_is_refused_as_well(copy: Path) -> None:
    with ScanFile(copy) as scan:
        first = next(scan.acquisitions())
        values = 2 * first.data.size
    damage(copy, chunk_of(copy, 0, "data"), values + 1)
    refused(copy, rf"record 0 promises {values + 1} values, expected at most {values} ")


def test_the_limit_is_that_of_the_environment(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScanFile(copy) as scan:
        largest = max(line.data.nbytes for line in scan.acquisitions())
    monkeypatch.setenv("CHPNET_LIMITS", f"item_bytes={largest}")
    read(copy)
    monkeypatch.setenv("CHPNET_LIMITS", f"item_bytes={largest - 1}")
    refused(copy, rf"has {largest:,} bytes of samples, .* set CHPNET_LIMITS=item_bytes=")


def test_the_header(copy: Path) -> None:
    with h5py.File(copy) as file:
        offset = file["dataset/xml"].id.get_offset()
    damage(copy, offset, HUGE)
    refused(copy, "the XML header promises")


def test_looking_costs_little_beside_reading(small_scan: Path) -> None:
    """Measured against the reading itself: the check must not double it."""
    from chpnet_stream.mrd.promises import check_promises

    with h5py.File(small_scan) as file:
        data = file["dataset/data"]
        count = data.shape[0]

        def once(work) -> float:
            began = time.perf_counter()
            work()
            return time.perf_counter() - began

        read_all = min(once(lambda: data[:]) for _ in range(9))
        size = small_scan.stat().st_size
        check = min(
            once(lambda: check_promises(data, 0, count, size, small_scan)) for _ in range(9)
        )
    assert check < 2 * read_all


RECORDS = 10**12
"""What no file of some kilobytes can hold; to read them would take years."""


def replaced(path: Path, name: str, **layout: object) -> None:
    """The same records in name and type, of which none was written."""
    with h5py.File(path, "r+") as file:
        kind = file[name].dtype
        del file[name]
        file.create_dataset(name, dtype=kind, **layout)


@pytest.mark.parametrize(
    "layout",
    [
        {"shape": (RECORDS,)},
        {"shape": (RECORDS,), "chunks": (1,)},
        {"shape": (RECORDS,), "chunks": (1000,)},
        {"shape": (RECORDS,), "chunks": (1000,), "compression": "gzip"},
    ],
    ids=["in one piece", "one by one", "joined", "compressed"],
)
@pytest.mark.parametrize("name", ["dataset/data", "dataset/waveforms"])
def test_records_that_were_never_written(
    tmp_path: Path, name: str, layout: dict[str, object]
) -> None:
    path = simulated(tmp_path, slices=1, waveforms=True)
    read(path)
    replaced(path, name, **layout)
    refused(path, rf"{name} promises {RECORDS:,} records, found room for 0")


def test_more_records_than_were_written(copy: Path) -> None:
    with h5py.File(copy, "r+") as file:
        count = len(file["dataset/data"])
        file["dataset/data"].resize((count + 1,))
    refused(copy, rf"promises {count + 1} records, found room for {count};")


def test_records_that_are_compressed_are_read(copy: Path) -> None:
    with h5py.File(copy, "r+") as file:
        records = file["dataset/data"][:]
        del file["dataset/data"]
        file.create_dataset("dataset/data", data=records, chunks=(7,), compression="gzip")
    read(copy)


def test_records_of_other_files(copy: Path) -> None:
    with h5py.File(copy, "r+") as file:
        kind = file["dataset/data"].dtype
        del file["dataset/data"]
        layout = h5py.VirtualLayout((RECORDS,), kind)
        layout[:40] = h5py.VirtualSource("other.h5", "dataset/data", (40,))
        file.create_virtual_dataset("dataset/data", layout)
    refused(copy, "dataset/data lies in other files, expected one file")


def test_records_that_are_no_list(copy: Path) -> None:
    replaced(copy, "dataset/data", shape=(4, 2))
    refused(copy, "dataset/data has 2 axes, expected one list")


def test_arrays_beside_the_records(copy: Path) -> None:
    with h5py.File(copy, "r+") as file:
        del file["dataset/truth/images"]
        file.create_dataset("dataset/truth/images", (10**6, 10**6), "f4")
    with ScanFile(copy) as scan:
        assert scan.stored_array("truth/coil_maps").size
        assert scan.stored_array("truth") is None  # a group
        with pytest.raises(TruncatedFileError, match="truth/images promises 4,000,000,000,000 byt"):
            scan.stored_array("truth/images")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("xml", "xml is no text"),
        ("waveforms", "waveforms are no ISMRMRD waveforms"),
        ("data", "has no ISMRMRD acquisitions"),
    ],
)
def test_groups_where_records_should_be(copy: Path, name: str, says: str) -> None:
    with h5py.File(copy, "r+") as file:
        if name in file["dataset"]:
            del file["dataset"][name]
        file["dataset"].create_group(name)
    with pytest.raises(InputError, match=says):
        read(copy)


def test_samples_that_are_no_arrays(copy: Path) -> None:
    with h5py.File(copy, "r+") as file:
        heads = file["dataset/data"].dtype["head"]
        del file["dataset/data"]
        kind = [("head", heads), ("traj", "f4"), ("data", "f4")]
        file["dataset"].create_dataset("data", data=np.zeros(4, kind))
    with pytest.raises(InputError, match="samples of /dataset/data are no arrays of variable"):
        read(copy)
