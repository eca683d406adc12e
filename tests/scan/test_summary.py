import json

import h5py
import pytest

from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.header import ScanHeader
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.scan.summary import as_dict, summarise
from chpnet_stream.session import Session
from tests.scan.building import Scan, write_scan


def summary_of(scan, path):
    write_scan(scan, path)
    with ScanFile(path) as file:
        return summarise(file)


def test_a_scan_with_everything(tmp_path):
    scan = Scan.of(ny=32, acceleration=(4, 1), mode="embedded")
    scan.line(0, 19)
    scan.line(0, 23)
    for n in range(3):
        for ky in range(32):
            flags = ((21,) if ky % 4 == 0 else (20,)) if 13 <= ky < 19 else ()
            if ky % 4 == 0 or flags:
                scan.line(ky, *flags, *((22,) if ky % 8 == 0 else ()), slice=n)
    found = summary_of(scan, tmp_path / "scan.h5")
    assert found.acquisitions == 2 + 3 * 13
    assert found.coils == 3
    assert found.encoded_matrix == (64, 32, 1)
    assert found.recon_matrix == found.image_matrix == (32, 32, 1)
    assert found.oversampling == 2
    assert found.counters["slice"] == 3
    assert found.counters["repetition"] == 1
    assert (found.stated_acceleration, found.measured_acceleration) == (4, 4)
    assert found.image_lines == 8
    assert found.calibration_lines == 6
    assert found.noise_samples == 64
    assert found.reversed_lines == 3 * 4
    assert found.flag_counts["ACQ_IS_NAVIGATION_DATA"] == 1
    assert found.flag_counts["ACQ_IS_PARALLEL_CALIBRATION"] == 15
    assert found.partial_fourier == 1.0
    assert found.can_reconstruct
    assert json.loads(json.dumps(as_dict(found)))["can_reconstruct"] is True


def with_recon_lines(scan, lines):
    """The scan with another number of lines in reconSpace, of the same field of view."""
    xml, (_, y, _) = scan.header.xml.decode(), scan.header.encodings[0].recon.matrix
    before, space = xml.split("<reconSpace>")
    space = space.replace(f"<y>{y}</y>", f"<y>{lines}</y>", 1)
    scan.header = ScanHeader.from_xml(f"{before}<reconSpace>{space}")
    return scan


@pytest.mark.parametrize(("asked", "made"), [(24, 24), (16, 16), (8, 16), (65, 16)])
def test_images_have_the_pixels_that_are_told(tmp_path, asked, made):
    scan = with_recon_lines(Scan.of(), asked)
    scan.lines(range(16))
    found = summary_of(scan, tmp_path / "scan.h5")
    assert found.recon_matrix == (32, asked, 1)
    assert found.image_matrix == (32, made, 1)
    (image,) = Session(scan.header, ReconstructionOptions(method="rss")).images(scan.made)
    assert image.result.image.shape == (made, 32)


def test_partial_fourier_and_asymmetric_echo(tmp_path):
    scan = Scan.of()
    for ky in range(4, 16):
        scan.line(ky, data=scan.kspace[:, 0, ky, 16:], center_sample=16)
    found = summary_of(scan, tmp_path / "scan.h5")
    assert found.partial_fourier == 0.75
    assert found.phase_resolution == 1.0
    assert found.echo_fraction == 0.75


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda scan: scan.line(0, 19), "none of the 1 acquisitions is image data"),
        (lambda scan: [scan.line(0), scan.line(1, encoding_space_ref=1)], "spaces 0, 1"),
        (lambda scan: [scan.line(0), scan.line(1, data=scan.kspace[:2, 0, 1])], "2, 3 coils"),
        (lambda scan: scan.lines(range(0, 16, 2)), "no calibration lines"),
        (lambda scan: scan.lines([0, 2, *range(4, 11), 12, 14]), "and 7 lines side by side"),
    ],
)
def test_verdicts(tmp_path, make, says):
    scan = Scan.of(acceleration=(2, 1), encodings=2)
    make(scan)
    found = summary_of(scan, tmp_path / "scan.h5")
    assert not found.can_reconstruct
    assert any(says in problem for problem in found.problems)


@pytest.mark.parametrize("stated", [1, 2])
def test_a_full_centre_needs_no_flags(stated, tmp_path):
    scan = Scan.of(acceleration=(stated, 1))
    scan.lines([0, 2, *range(4, 12), 12, 14])
    assert summary_of(scan, tmp_path / "scan.h5").can_reconstruct


def test_undersampling_that_the_header_does_not_tell_needs_calibration_too(tmp_path):
    scan = Scan.of()
    scan.lines(range(0, 16, 2))
    found = summary_of(scan, tmp_path / "scan.h5")
    (problem,) = found.problems
    assert "no calibration lines (flags 20, 21), and 1 lines side by side" in problem


def test_samples_are_not_read(tmp_path):
    scan = Scan.of()
    scan.lines(range(16))
    path = tmp_path / "scan.h5"
    summary_of(scan, path)
    with h5py.File(path, "r+") as file:
        record = file["dataset/data"][3]
        record["data"] = record["data"][:2]
        file["dataset/data"][3] = record
    with ScanFile(path) as file:
        assert summarise(file).acquisitions == 16


def test_scanner_file(shared_data):
    path = shared_data / "gadgetron-phantom-14ch-R3" / "meas_MID00349_FID09273_SNR_R3.h5"
    with ScanFile(path) as file:
        found = summarise(file)
    assert (found.coils, found.measured_acceleration) == (14, 3)
    assert (found.image_lines, found.calibration_lines) == (36, 48)
    assert (found.partial_fourier, found.phase_resolution) == (1.0, 0.75)
    assert found.recon_fov_mm == (280.0, 210.0, 8.0)
    assert found.vendor == "SIEMENS Skyra"
    assert found.can_reconstruct
