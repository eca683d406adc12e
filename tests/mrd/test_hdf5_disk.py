import os

import h5py
import numpy as np
import pytest

from chpnet_stream.mrd.hdf5_disk import Hdf5Disk
from tests.helpers import no_file_larger_than

FULL = 100_000


def fill(file, pictures=50):
    """Numbers, and texts of any length, in datasets that grow."""
    data = file.create_dataset(
        "data", (0, 32, 32), "f4", maxshape=(None, 32, 32), chunks=(1, 32, 32)
    )
    texts = file.create_dataset("texts", (0,), h5py.string_dtype(), maxshape=(None,))
    for number in range(pictures):
        for dataset in (data, texts):
            dataset.resize(number + 1, axis=0)
        data[number] = number
        texts[number] = f"{number}" * number


def test_hdf5_finds_what_it_has_written(tmp_path):
    path = tmp_path / "a.h5"
    disk = Hdf5Disk(path)
    with h5py.File(disk, "w") as file:
        fill(file)
    disk.check()
    disk.close()
    disk.close()
    with h5py.File(path, "r") as file:
        np.testing.assert_array_equal(file["data"][:, 3, 3], np.arange(50))
        assert file["texts"].asstr()[12] == 12 * "12"


def test_a_full_disk_is_told_and_hdf5_closes_its_file(tmp_path):
    disk = Hdf5Disk(tmp_path / "a.h5")
    with no_file_larger_than(FULL), h5py.File(disk, "w") as file:
        fill(file)
        file.flush()
        np.testing.assert_array_equal(file["data"][:, 3, 3], np.arange(50))  # from memory
        assert file["texts"].asstr()[12] == 12 * "12"
    with pytest.raises(OSError, match="File too large"):
        disk.check()
    disk.close()
    assert (tmp_path / "a.h5").stat().st_size <= FULL


def test_what_was_kept_lies_over_what_was_written(tmp_path):
    disk = Hdf5Disk(tmp_path / "a")
    disk.write(b"0123456789")
    with no_file_larger_than(10):
        disk.seek(8)
        disk.write(b"abcd")
        disk.seek(3)
        disk.write(b"xy")
    disk.seek(0)
    assert disk.read(16) == b"012xy567abcd" + 4 * b"\0"
    assert disk.seek(0, os.SEEK_END) == disk.tell() == 12
    disk.close()


def test_nothing_is_replaced(tmp_path):
    (tmp_path / "a").write_text("precious")
    with pytest.raises(FileExistsError):
        Hdf5Disk(tmp_path / "a")
