"""The assembler on real and third-party files."""

import os
import shutil
import subprocess

import h5py
import numpy as np
import pytest

from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.scan.readout import centred_ifft
from chpnet_stream.scan.slices import SliceAssembler


def slices_of(path):
    with ScanFile(path) as scan:
        return list(SliceAssembler(scan.header).assemble(scan))


def rss(kspace):
    image = centred_ifft(centred_ifft(kspace, -1), -2)
    return np.sqrt((np.abs(image) ** 2).sum(axis=0))


def test_scanner_file(shared_data):
    (made,) = slices_of(
        shared_data / "gadgetron-phantom-14ch-R3" / "meas_MID00349_FID09273_SNR_R3.h5"
    )
    assert made.kspace.shape == (14, 144, 192)
    # Line y sits in row y + 18; 68 of 144 lines were measured, 48 of them for calibration.
    rows = np.flatnonzero(made.sampled)
    assert (rows[0], rows[-1], len(rows)) == (18, 123, 68)
    assert np.flatnonzero(made.calibrated).tolist() == list(range(48, 96))
    assert made.head.idx.kspace_encode_step_1 == 54
    assert made.complete
    # The centre of k-space is where the signal is.
    energy = (np.abs(made.calibration) ** 2).sum(axis=(0, 2))
    assert abs(int(energy.argmax()) - 72) <= 1


@pytest.mark.parametrize(
    "name",
    [
        "espirit-full-brain-8ch/brain_full.h5",
        "espirit-full-brain-8ch/brain_R4_acs24.h5",
        "synthetic-ismrmrd/sl_full_m128_c8_noise.h5",
        "synthetic-ismrmrd/sl_rep3_m64_c4.h5",
    ],
)
def test_root_sum_of_squares_agrees_with_debians_program(
    shared_data, ismrmrd_tools, tmp_path, name
):
    copy = tmp_path / "copy.h5"  # the program writes its result into its input
    shutil.copy(shared_data / name, copy)
    os.chmod(copy, 0o644)  # noqa: PTH101
    program = ismrmrd_tools / "ismrmrd_recon_cartesian_2d"
    subprocess.run([program, copy], check=True, capture_output=True)
    with h5py.File(copy) as file:
        theirs = file["dataset/cpp/data"][:].squeeze()
    slices = slices_of(shared_data / name)
    ours = rss(slices[-1].kspace)
    if len(slices) == 1:
        assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.999999
    else:  # the program puts every repetition in one picture, the last one stays
        assert np.corrcoef(theirs.reshape(-1, *ours.shape)[-1].ravel(), ours.ravel())[0, 1] > 0.9999


def test_shepp_logan_file_against_the_truth_inside(shared_data):
    path = shared_data / "synthetic-ismrmrd" / "sl_full_m128_c8_noise.h5"
    (made,) = slices_of(path)
    with h5py.File(path) as file:
        truth = file["dataset/phantom"][0]
        maps = file["dataset/csm"][0]
    phantom, csm = (a["real"] + 1j * a["imag"] for a in (truth, maps))
    images = centred_ifft(centred_ifft(made.kspace, -1), -2)
    ours = np.abs((csm.conj() * images).sum(axis=0) / (np.abs(csm) ** 2).sum(axis=0))
    assert np.corrcoef(np.abs(phantom).ravel(), ours.ravel())[0, 1] > 0.99


def test_interleaved_file_covers_all_lines(shared_data):
    slices = slices_of(shared_data / "synthetic-ismrmrd" / "sl_a2_w24_m128_c8_noise.h5")
    assert [s.counters["repetition"] for s in slices] == [0, 1]
    assert slices[1].calibrated.all()
    assert all(s.complete for s in slices)
