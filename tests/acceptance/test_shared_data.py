"""Real and third-party scans, against BART, Debian's ismrmrd-tools and the truth in the files.

The figures in the assertions are bounds; what was measured stands beside them.
"""

import functools
import shutil
import subprocess
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
import torch

from chpnet_stream import calibrate
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.network.weights import installed_models
from chpnet_stream.offline import OfflineJob, run_offline
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.scan.readout import centred_ifft
from chpnet_stream.scan.undersampling import undersample
from chpnet_stream.session import Session, SessionImage
from chpnet_training.bart import bart_espirit, bart_pics
from chpnet_training.scoring import Score, object_mask, score_raw

SIEMENS = "gadgetron-phantom-14ch-R3/meas_MID00349_FID09273_SNR_R3.h5"
BRAIN = "espirit-full-brain-8ch/brain_full.h5"
BRAIN_R4 = "espirit-full-brain-8ch/brain_R4_acs24.h5"
SHEPP_LOGAN = "synthetic-ismrmrd"


@pytest.fixture
def scan_of(shared_data: Path):
    def find(name: str) -> Path:
        path = shared_data / name
        if not path.is_file():
            pytest.skip(f"no file {path}")
        return path

    return find


def session_of(path: Path, **options) -> tuple[Session, list[SessionImage]]:
    with ScanFile(path) as scan:
        session = Session(scan.header, ReconstructionOptions(**options))
        return session, list(session.images(scan.acquisitions()))


def scaled_error(found: np.ndarray, reference: np.ndarray) -> float:
    """Norm of the difference after a least-squares scale, over the norm of the reference."""
    found = found * ((found * reference).sum() / (found**2).sum())
    return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


# The Siemens scan: 14 channels, R = 3, noise scan, asymmetric ky.


def test_siemens_file_gives_one_image_with_the_right_header(scan_of, tmp_path: Path) -> None:
    source = scan_of(SIEMENS)
    report = run_offline(
        OfflineJob(source, tmp_path / "out.h5", options=ReconstructionOptions(method="cg-sense"))
    )
    assert (report.images, report.coils) == (1, 14)
    assert report.session.reconstructor.calibration.noise_source == "noise scan"
    with ismrmrd.Dataset(str(tmp_path / "out.h5"), mode="r") as dataset:
        assert dataset.number_of_images("image_1") == 1
        image = dataset.read_image("image_1", 0)
    with ScanFile(source) as scan:
        line = next(a for a in scan.acquisitions() if a.idx.kspace_encode_step_1 == 54
                    and not a.isFlagSet(19))  # fmt: skip
    head = image.getHead()
    assert tuple(head.matrix_size) == (192, 144, 1)
    assert tuple(head.field_of_view)[:2] == (280.0, 210.0)
    assert image.data.shape == (1, 1, 144, 192)
    for name in ("position", "read_dir", "phase_dir", "slice_dir", "patient_table_position"):
        np.testing.assert_array_equal(getattr(head, name), getattr(line, name))
    assert head.acquisition_time_stamp == line.acquisition_time_stamp
    assert head.measurement_uid == line.measurement_uid
    assert (head.image_index, head.image_series_index, head.image_type) == (1, 1, 1)
    assert "SNR_R3" in image.meta["SeriesDescription"]
    assert image.meta["ImageProcessingHistory"][:3] == ["chpnet-stream", "whitened", "ESPIRiT"]


def bottles(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two bottles, and the air two pixels and more away from them."""
    from scipy import ndimage

    bright = image > 0.1 * np.percentile(image, 99)
    closed = ndimage.binary_closing(np.pad(bright, 8), iterations=4)[8:-8, 8:-8]
    labels, count = ndimage.label(ndimage.binary_fill_holes(closed))
    sizes = np.bincount(labels.ravel())[1:]
    assert (sizes > 1000).sum() in (1, 2), f"{count} objects of {sizes}"  # they nearly touch
    inside = np.isin(labels, np.flatnonzero(sizes > 1000) + 1)
    return inside, ~ndimage.binary_dilation(inside, iterations=2)


def test_siemens_file_has_no_ghosts(scan_of, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside the bottles there is 0.05 % of their energy, and nothing where a ghost would be.

    The coil maps are zero in the air, which would hide a ghost there: here they are not cut off.
    """
    _, (image,) = session_of(scan_of(SIEMENS), method="cg-sense")
    inside, outside = bottles(image.result.image)
    monkeypatch.setattr(calibrate, "espirit", functools.partial(calibrate.espirit, crop=-1.0))
    pixels = {}
    for method in ("cg-sense", "zero-filled"):
        _, (made,) = session_of(scan_of(SIEMENS), method=method)
        pixels[method] = made.result.image.astype(float)
        assert pixels[method].min() > 0
    share = {m: (x[outside] ** 2).sum() / (x[inside] ** 2).sum() for m, x in pixels.items()}
    assert share["cg-sense"] < 0.001
    assert share["cg-sense"] < share["zero-filled"]
    for shift in (48, -48):  # a third of the field of view
        ghost = np.roll(inside, shift, axis=0) & outside
        assert ghost.sum() > 5000
        level = float(np.median(pixels["cg-sense"][ghost]))
        assert level < 0.02 * np.median(pixels["cg-sense"][inside])  # 0.014
        assert level < 3  # 2.5 deviations of the noise: noise, times the square root of R and g


def test_siemens_cg_sense_agrees_with_bart(scan_of, bart: Path) -> None:
    """On the same whitened and compressed data, each with its own maps."""
    session, (image,) = session_of(scan_of(SIEMENS), method="cg-sense")
    reconstructor = session.reconstructor
    matrix = reconstructor.calibration.sensitivities(image.data).matrix
    kspace = torch.einsum("vc,cyx->vyx", matrix, torch.from_numpy(image.data.kspace)).numpy()
    lines = torch.from_numpy(image.data.calibration)
    calibration = torch.einsum("vc,cyx->vyx", matrix, lines).numpy()
    maps = bart_espirit(calibration)
    found, _ = bart_pics(kspace, maps, ["-S", "-l2", "-r", "0.01", "-i", "30"])
    inside, _ = bottles(image.result.image)
    ours = reconstructor(image.data, "cg-sense").image
    error = scaled_error(ours[inside], np.abs(found)[inside])
    assert error < 0.01  # 0.0021
    assert scaled_error(ours, np.abs(found)) < 0.02  # 0.0058, with the edges of the maps
    assert likeness(ours, np.abs(found)) > 0.999  # 0.99997


# The real brain.


def test_brain_rss_equals_debians_program(scan_of, ismrmrd_tools: Path, tmp_path: Path) -> None:
    copy = tmp_path / "brain.h5"
    shutil.copyfile(scan_of(BRAIN), copy)
    subprocess.run(
        [ismrmrd_tools / "ismrmrd_recon_cartesian_2d", copy],
        check=True,
        capture_output=True,
        timeout=100,
    )
    with h5py.File(copy) as file:
        group = file["dataset/cpp"] if "dataset/cpp" in file else file["dataset/image_0"]
        theirs = np.asarray(group["data"], dtype=float).squeeze()
    _, (image,) = session_of(scan_of(BRAIN), method="rss")
    assert theirs.shape == image.result.image.shape == (180, 230)
    assert likeness(theirs, image.result.image) >= 0.9999
    assert scaled_error(image.result.image, theirs) < 1e-5


def brain_scores(scan_of, **options) -> dict[str, Score]:
    """Scores of all methods on the undersampled brain, by the maps that they had."""
    session, (image,) = session_of(scan_of(BRAIN_R4), **options)
    reconstruct = session.reconstructor
    _, (full,) = session_of(scan_of(BRAIN), method="zero-filled")
    complete = full.data
    complete.calibration, complete.calibrated = image.data.calibration, image.data.calibrated
    complete.calibration_version = image.data.calibration_version
    reference = reconstruct(complete, "zero-filled").image.astype(float)
    mask = object_mask(reference)
    methods = ["zero-filled", "cg-sense", *(["chpnet"] if session.engine else [])]
    return {m: score_raw(reconstruct(image.data, m).image, reference, mask) for m in methods}


def test_brain_cg_sense_beats_zero_filled(scan_of) -> None:
    scores = brain_scores(scan_of, method="cg-sense")
    assert scores["cg-sense"].psnr > 31
    assert scores["cg-sense"].ssim > 0.86
    assert scores["cg-sense"].psnr > scores["zero-filled"].psnr + 5
    assert scores["cg-sense"].ssim > scores["zero-filled"].ssim + 0.05


@pytest.mark.skipif("chpnet-rt" not in installed_models(), reason="chpnet-rt is not installed")
def test_brain_chpnet_beats_both(scan_of) -> None:
    scores = brain_scores(scan_of)
    for other in ("zero-filled", "cg-sense"):
        assert scores["chpnet"].psnr > scores[other].psnr + 1
        assert scores["chpnet"].ssim > scores[other].ssim + 0.02


def test_brain_undersampled_here_is_the_undersampled_file(scan_of) -> None:
    _, (full,) = session_of(scan_of(BRAIN), method="rss")
    _, (image,) = session_of(scan_of(BRAIN_R4), method="rss")
    made = undersample(full.data, 4)
    np.testing.assert_array_equal(made.sampled > 0, image.data.sampled > 0)
    np.testing.assert_allclose(
        made.kspace, image.data.kspace, atol=1e-6 * np.abs(made.kspace).max()
    )


# Shepp-Logan by Debian's ismrmrd-tools, with the truth inside.


def stored(path: Path, name: str) -> np.ndarray:
    """An array that the program left beside the acquisitions, complex."""
    with h5py.File(path) as file:
        data = file[f"dataset/{name}"][:]
    return np.squeeze(data["real"] + 1j * data["imag"])


def truth_of(path: Path) -> np.ndarray:
    """Root sum of squares of the phantom behind the coils, `y x`."""
    return np.abs(stored(path, "phantom")) * np.linalg.norm(stored(path, "csm"), axis=0)


# Of the whole image; what is left is noise, as the next test shows. Root sum of squares is worst in
# the air, where it adds the noise of all coils.
SHEPP_LOGAN_ERRORS = {
    "sl_full_m128_c8_noise.h5": {"cg-sense": 0.043, "zero-filled": 0.043, "rss": 0.118},
    "sl_a2_w24_m128_c8_noise.h5": {"cg-sense": 0.180, "zero-filled": 0.277, "rss": 0.362},
    "sl_rep3_m64_c4.h5": {"cg-sense": 0.171, "zero-filled": 0.171, "rss": 0.279},
}
"""Measured errors of the worst repetition."""


@pytest.mark.parametrize("name", SHEPP_LOGAN_ERRORS)
def test_shepp_logan_agrees_with_the_truth_inside(name: str, scan_of) -> None:
    path = scan_of(f"{SHEPP_LOGAN}/{name}")
    truth = truth_of(path)
    for method, measured in SHEPP_LOGAN_ERRORS[name].items():
        _, images = session_of(path, method=method)
        assert len(images) == {"full": 1, "a2": 2, "rep3": 3}[name.split("_")[1]]
        assert max(scaled_error(i.result.image, truth) for i in images) < 1.05 * measured
        inside = truth > 0
        mean = np.mean([i.result.image for i in images], axis=0)
        assert method == "rss" or likeness(mean[inside], truth[inside]) > 0.95


@pytest.mark.parametrize("name", ["sl_full_m128_c8_noise.h5", "sl_rep3_m64_c4.h5"])
def test_shepp_logan_is_as_good_as_with_the_true_coils(name: str, scan_of) -> None:
    """All lines combined by the true sensitivities: what noise alone leaves of an error."""
    path = scan_of(f"{SHEPP_LOGAN}/{name}")
    session, (image, *_) = session_of(path, method="zero-filled")
    whitening = session.reconstructor.calibration.whitening(image.data).numpy()
    phantom, maps = stored(path, "phantom"), np.tensordot(whitening, stored(path, "csm"), 1)
    norm = np.linalg.norm(maps, axis=0)
    kspace = np.tensordot(whitening, image.data.kspace, 1)
    coils = centred_ifft(centred_ifft(kspace, -1), -2)
    truth = np.abs(phantom) * norm
    best = scaled_error(np.abs((maps.conj() * coils).sum(0)) / norm, truth)
    assert scaled_error(image.result.image, truth) < 1.05 * best
