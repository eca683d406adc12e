"""Damaged lengths in HDF5 files are refused before memory is taken for them."""

import resource
import shutil
import struct
import time
from pathlib import Path

import h5py
import pytest

from chpnet_stream.errors import TruncatedFileError
from chpnet_stream.mrd.files import ScanFile

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
