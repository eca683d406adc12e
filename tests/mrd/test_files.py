import fcntl

import h5py
import ismrmrd
import numpy as np
import pytest

from chpnet_stream.errors import (
    BadSamplesError,
    EmptyScanError,
    HeaderError,
    MissingGroupError,
    NotAnMrdFileError,
    TruncatedFileError,
)
from chpnet_stream.mrd.files import ScanFile
from tests.scan.building import Scan


def write(path, scan, acquisitions, group="dataset", waveforms=()):
    with ismrmrd.Dataset(path, group, mode="w") as dataset:
        dataset.write_xml_header(scan.header.xml)
        for acquisition in acquisitions:
            dataset.append_acquisition(acquisition)
        for waveform in waveforms:
            dataset.append_waveform(waveform)
    return path


@pytest.fixture
def scan():
    return Scan.of()


@pytest.fixture
def path(tmp_path, scan):
    return write(tmp_path / "scan.h5", scan, scan.lines(range(16)))


def test_acquisitions_come_back_as_written(path, scan):
    with ScanFile(path) as file:
        assert len(file) == 16
        assert file.header.encodings == scan.header.encodings
        assert list(file) == scan.made
        heads = np.concatenate(list(file.heads(block=5)))
    assert heads["idx"]["kspace_encode_step_1"].tolist() == list(range(16))
    assert heads["flags"][-1] == 128


def test_reading_agrees_with_the_ismrmrd_package(shared_data):
    path = shared_data / "gadgetron-phantom-14ch-R3" / "meas_MID00349_FID09273_SNR_R3.h5"
    with ScanFile(path) as file, ismrmrd.Dataset(path, mode="r") as dataset:
        assert len(file) == dataset.number_of_acquisitions()
        for n, acquisition in enumerate(file):
            assert acquisition == dataset.read_acquisition(n)


def test_trajectories_are_kept(tmp_path, scan):
    data = scan.kspace[:, 0, 0]
    traj = np.arange(2 * data.shape[1], dtype=np.float32).reshape(-1, 2)
    acquisition = ismrmrd.Acquisition.from_array(data, traj)
    path = write(tmp_path / "scan.h5", scan, [acquisition])
    with ScanFile(path) as file:
        (read,) = file
    np.testing.assert_array_equal(read.traj, traj)


def test_acquisitions_of_different_length_in_one_file(tmp_path, scan):
    made = [scan.line(0), scan.line(1, data=scan.kspace[:, 0, 1, :40]), scan.line(2)]
    path = write(tmp_path / "scan.h5", scan, made)
    with ScanFile(path) as file:
        assert [a.data.shape for a in file] == [(3, 64), (3, 40), (3, 64)]


def waveform(time_stamp, scan_counter=0):
    return ismrmrd.Waveform.from_array(
        np.full((2, 5), time_stamp + scan_counter, dtype=np.uint32),
        time_stamp=time_stamp,
        scan_counter=scan_counter,
    )


def test_waveforms_are_put_in_by_time(tmp_path, scan):
    made = scan.lines(range(4))  # time stamps 100 to 103
    waves = [waveform(99), waveform(102), waveform(200)]
    path = write(tmp_path / "scan.h5", scan, made, waveforms=waves)
    with ScanFile(path) as file:
        assert file.number_of_waveforms == 3
        items = list(file.items())
    kinds = "".join("w" if isinstance(item, ismrmrd.Waveform) else "a" for item in items)
    assert kinds == "waawaaw"
    np.testing.assert_array_equal(items[0].data, waves[0].data)


def test_waveforms_without_time_stamps_are_put_in_by_scan_counter(tmp_path, scan):
    made = [scan.line(ky, acquisition_time_stamp=0) for ky in range(4)]
    path = write(tmp_path / "scan.h5", scan, made, waveforms=[waveform(0, 2)])
    with ScanFile(path) as file:
        kinds = ["w" if isinstance(item, ismrmrd.Waveform) else "a" for item in file.items()]
    assert kinds == ["a", "a", "w", "a", "a"]


def test_no_such_file(tmp_path):
    with pytest.raises(NotAnMrdFileError, match="no file"):
        ScanFile(tmp_path / "missing.h5")


def test_folder(tmp_path):
    with pytest.raises(NotAnMrdFileError, match="is a folder"):
        ScanFile(tmp_path)


def test_not_hdf5(tmp_path):
    path = tmp_path / "scan.h5"
    path.write_bytes(b"This is no HDF5 file at all")
    with pytest.raises(NotAnMrdFileError, match="begins with b'This is '"):
        ScanFile(path)


def test_a_file_that_somebody_writes_is_told_as_that(path):
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as HDF5 does while it writes
        with pytest.raises(TruncatedFileError, match=r"is being written by another .*; wait until"):
            ScanFile(path)
    with ScanFile(path) as file:
        assert len(file) == 16


def test_a_name_that_can_not_be_looked_at(tmp_path):
    """As a file in a folder of somebody else's."""
    with pytest.raises(NotAnMrdFileError, match="can't be read: File name too long"):
        ScanFile(tmp_path / f"{300 * 'x'}.h5")


def test_no_such_group_lists_those_that_are_there(path):
    with pytest.raises(MissingGroupError, match="no group 'other', it has: dataset;"):
        ScanFile(path, "other")


def test_hdf5_of_another_kind_is_told_as_that(tmp_path):
    path = tmp_path / "file1000001.h5"
    with h5py.File(path, "w") as file:  # as fastMRI's
        file["kspace"] = np.zeros((2, 2), np.complex64)
        file["ismrmrd_header"] = "<ismrmrdHeader/>"
    said = "no group 'dataset', it has no groups, but ismrmrd_header, kspace; expected"
    with pytest.raises(MissingGroupError, match=said):
        ScanFile(path)


def test_group_without_acquisitions(tmp_path, scan):
    path = write(tmp_path / "scan.h5", scan, [])
    with pytest.raises(NotAnMrdFileError, match="no ISMRMRD acquisitions"):
        ScanFile(path)


def test_zero_acquisitions(path):
    with h5py.File(path, "r+") as file:
        file["dataset/data"].resize(0, axis=0)
    with pytest.raises(EmptyScanError, match="0 acquisitions"):
        ScanFile(path)


def test_no_xml_header(path):
    with h5py.File(path, "r+") as file:
        del file["dataset/xml"]
    with pytest.raises(HeaderError, match="no XML header"):
        ScanFile(path)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.98])
def test_truncated_file(path, kept):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(TruncatedFileError, match="cut off or damaged"):
        list(ScanFile(path))


def test_acquisition_shorter_than_its_header_says(path):
    with h5py.File(path, "r+") as file:
        record = file["dataset/data"][3]
        record["data"] = record["data"][:-10]
        file["dataset/data"][3] = record
    with (
        ScanFile(path) as file,
        pytest.raises(
            TruncatedFileError, match="acquisition 3 has 374 values, expected 3 coils x 64"
        ),
    ):
        list(file)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_samples_are_refused_by_number(tmp_path, scan, value):
    made = scan.lines(range(4))
    made[2].data[1, 7] = value
    path = write(tmp_path / "scan.h5", scan, made)
    with ScanFile(path) as file:
        with pytest.raises(BadSamplesError, match=r"acquisition 2 .* line 2\) has 1 NaN .* coil 1"):
            list(file)
        assert len(list(file.acquisitions(check=False))) == 4


def test_huge_but_finite_samples_are_accepted(tmp_path, scan):
    made = [scan.line(0, data=np.full((3, 64), 3e38, np.complex64))]
    path = write(tmp_path / "scan.h5", scan, made)
    with ScanFile(path) as file, np.errstate(over="ignore"):
        assert len(list(file)) == 1


def test_the_file_is_only_read(path):
    before = path.read_bytes()
    path.chmod(0o444)
    with ScanFile(path) as file:
        list(file.items())
    assert path.read_bytes() == before
