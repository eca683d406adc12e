import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from chpnet_stream.cli.main import main
from chpnet_stream.mrd import flags


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["info", *words])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def changed(scan: Path, folder: Path, old: str, new: str) -> Path:
    """A copy of the scan whose header has `new` where it had `old`."""
    path = folder / "changed.h5"
    shutil.copy(scan, path)
    with h5py.File(path, "r+") as file:
        xml = file["dataset/xml"][0].decode()
        assert old in xml
        file["dataset/xml"][0] = xml.replace(old, new)
    return path


def test_a_scan_that_can_be_reconstructed(small_scan, capsys):
    assert run(str(small_scan)) == 0
    found = capsys.readouterr()
    assert found.err == ""
    table = {
        line.split("│")[1].strip(): line.split("│")[2].strip()
        for line in found.out.splitlines()
        if line.count("│") == 3
    }
    assert table["image matrix (x y z)"] == "64 x 64 x 1"
    assert table["fov"] == "240 x 240 x 4 mm"
    assert table["coils"] == "4"
    assert table["acceleration"].startswith("2 measured, 2 stated")
    assert table["calibration"] == "16 lines, embedded"
    assert table["readout oversampling"] == "2"
    assert table["counters"] == "slice 2"
    assert table["noise scan"].endswith("samples")
    assert table["can be reconstructed"] == "yes"
    assert "because" not in table


def test_json_has_the_numbers(small_scan, capsys):
    assert run(str(small_scan), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["coils"] == 4
    assert found["recon_matrix"] == [64, 64, 1]
    assert found["flag_counts"]["ACQ_IS_NOISE_MEASUREMENT"] == 1
    assert found["can_reconstruct"] is True
    assert found["problems"] == []
    assert found["scan_time_s"] > 0


@pytest.mark.parametrize("unset", [1, None])
def test_lines_without_a_time_stamp_do_not_count_for_the_time(unset, small_scan, tmp_path, capsys):
    """The noise scan's, or all of them."""
    run(str(small_scan), "--json")
    before = json.loads(capsys.readouterr().out)["scan_time_s"]
    path = tmp_path / "scan.h5"
    shutil.copy(small_scan, path)
    with h5py.File(path, "r+") as file:
        data = file["dataset/data"][:]
        data["head"]["acquisition_time_stamp"][:unset] = 0
        file["dataset/data"][:] = data
    assert run(str(path), "--json") == 0
    found = json.loads(capsys.readouterr().out)["scan_time_s"]
    assert found is None if unset is None else before - 0.1 < found <= before


def test_a_full_centre_without_flags_is_calibration_enough(small_scan, tmp_path, capsys):
    """As offline sees it."""
    path = tmp_path / "scan.h5"
    shutil.copy(small_scan, path)
    with h5py.File(path, "r+") as file:
        data = file["dataset/data"][:]
        data["head"]["flags"] &= ~np.uint64(flags.CALIBRATION | flags.CALIBRATION_AND_IMAGE)
        file["dataset/data"][:] = data
    assert run(str(path), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["calibration_lines"], found["can_reconstruct"]) == (0, True)
    with pytest.raises(SystemExit) as stop:
        main(["offline", str(path), "--method", "cg-sense"])
    assert stop.value.code == 0


def test_a_scan_that_cannot_be_exits_2_after_the_table(small_scan, tmp_path, capsys):
    path = changed(small_scan, tmp_path, ">cartesian<", ">radial<")
    assert run(str(path)) == 2
    found = capsys.readouterr()
    assert "radial" in found.out
    assert "can be reconstructed" in found.out
    assert "because" in found.out
    assert found.err.count("\n") == 1
    assert "trajectory is 'radial'" in found.err
    assert run(str(path), "--json") == 2
    found = json.loads(capsys.readouterr().out)
    assert found["can_reconstruct"] is False
    assert "radial" in found["problems"][0]


def test_nothing_names_the_patient(small_scan, tmp_path, capsys):
    person = (
        "<subjectInformation><patientName>DOE^JANE</patientName><patientID>4711</patientID>"
        "<patientBirthdate>1970-01-02</patientBirthdate></subjectInformation>"
        "<studyInformation><studyID>4712</studyID><accessionNumber>4713</accessionNumber>"
        "<referringPhysicianName>ROE</referringPhysicianName></studyInformation>"
    )
    path = changed(small_scan, tmp_path, "</ismrmrdHeader>", f"{person}</ismrmrdHeader>")
    assert run(str(path)) == 0
    assert run(str(path), "--json") == 0
    found = capsys.readouterr()
    for secret in ("DOE", "JANE", "4711", "4712", "4713", "1970", "ROE"):
        assert secret not in found.out + found.err


@pytest.mark.parametrize(
    ("make", "words", "says"),
    [
        (lambda path: None, [], "no file"),
        (lambda path: path.write_text("not a scan"), [], "is not HDF5"),
        (lambda path: h5py.File(path, "w").close(), ["--group", "raw"], "has no group 'raw'"),
    ],
)
def test_unreadable_files_are_one_line(make, words, says, tmp_path, capsys):
    make(tmp_path / "scan.h5")
    assert run(str(tmp_path / "scan.h5"), *words) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert says in found.err
    assert found.err.count("\n") == 1


def test_scanner_file(shared_data, capsys):
    path = shared_data / "gadgetron-phantom-14ch-R3" / "meas_MID00349_FID09273_SNR_R3.h5"
    assert run(str(path)) == 0
    found = capsys.readouterr().out
    assert "280 x 210 x 8 mm" in found
    assert "SIEMENS Skyra" in found


def test_a_matrix_that_is_not_made_is_told(small_scan, tmp_path, capsys):
    """reconSpace of five times the columns."""
    path = tmp_path / "scan.h5"
    shutil.copy(small_scan, path)
    with h5py.File(path, "r+") as file:
        before, space = file["dataset/xml"][0].decode().split("<reconSpace>")
        space = space.replace("<x>64</x>", "<x>320</x>", 1)
        file["dataset/xml"][0] = f"{before}<reconSpace>{space}"
    assert run(str(path)) == 0
    table = capsys.readouterr().out
    assert "64 x 64 x 1" in table
    assert "320 x 64 x 1; nothing is padded, made coarser" in table
