import numpy as np
import pytest
import torch

from chpnet_stream.errors import InputError
from chpnet_stream.network.card import ModelCard
from chpnet_stream.network.config import StudentConfig
from chpnet_stream.simulation.scan import simulate_scan
from chpnet_training.evaluation import average, evaluate_scan, find_scan
from chpnet_training.scoring import score_volume
from tests.helpers import small_options


class StartEngine:
    """An engine whose network returns its starting image: the pipeline without a training."""

    name = "start"
    device = torch.device("cpu")
    card = ModelCard(
        name="start",
        student=StudentConfig(),
        weights_sha256="0" * 64,
        onnx_sha256=(),
        parameters=0,
        gmac_320=0.0,
        start_iterations=10,
        start_regularization=1e-2,
        data=(),
        recipe={},
        steps=0,
        seed=0,
        metrics={},
        licence="MIT",
        limits=(),
        training="none",
    )

    def run(self, problem):
        return problem.start


@pytest.fixture(scope="module")
def full_scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("full") / "scan.h5"
    simulate_scan(path, small_options(acceleration=1))
    return path


def test_every_method_on_every_slice(full_scan):
    rows = evaluate_scan(
        full_scan, StartEngine(), acceleration=2, calibration_lines=16, repeats=1, bart=False
    )
    assert [(row.slice, row.method) for row in rows[:3]] == [
        (rows[0].slice, method) for method in ("zero-filled", "cg-sense", "chpnet")
    ]
    assert {row.slice for row in rows} == {0, 1}
    for row in rows:
        assert row.fallback is None
        assert row.calibration_ms > 0
        assert row.image.shape == row.reference.shape == (64, 64)
    zero_filled, cg_sense, network = average(rows)
    assert zero_filled["slices"] == 2
    assert cg_sense["psnr_db"] > zero_filled["psnr_db"] + 3
    # the stand-in network starts from, and returns, the same CG-SENSE
    assert network["psnr_db"] == pytest.approx(cg_sense["psnr_db"], abs=1e-6)
    own = [row.score.psnr for row in rows if row.method == "cg-sense"]
    assert cg_sense["psnr_db"] == pytest.approx(np.mean(own))
    images = [row for row in rows if row.method == "cg-sense"]
    volume = score_volume(
        np.stack([row.image / row.scale for row in images]),
        np.stack([row.reference for row in images]),
    )
    assert cg_sense["volume_psnr_db"] == volume.psnr
    assert cg_sense["volume_hfen"] == volume.hfen
    assert zero_filled["volume_ssim"] < cg_sense["volume_ssim"] < 1


def test_bart_on_our_maps_and_on_its_own(full_scan, bart):
    rows = evaluate_scan(full_scan, StartEngine(), acceleration=2, calibration_lines=16, repeats=1)
    table = {(row["method"], row["maps"]): row for row in average(rows)}
    ours = table["cg-sense", "chpnet-stream"]["psnr_db"]
    for maps in ("chpnet-stream", "bart"):
        # the same method by another program: near, not equal (iterations, regularization)
        assert table["bart cg-sense", maps]["psnr_db"] == pytest.approx(ours, abs=2.0)
        assert table["bart l1-wavelet", maps]["image_ms"] > 0


def test_the_real_brain_agrees_with_bart(shared_data):
    rows = evaluate_scan(find_scan(shared_data), StartEngine(), repeats=1, bart=False)
    scores = {row.method: row.score for row in rows}
    # by BART's maps, BART's zero-filled and CG-SENSE have 24.3 dB / 0.773 and 31.2 dB / 0.873
    assert scores["zero-filled"].psnr == pytest.approx(24.3, abs=0.2)
    assert scores["zero-filled"].ssim == pytest.approx(0.773, abs=0.005)
    assert scores["cg-sense"].psnr == pytest.approx(31.2, abs=0.8)


def test_a_folder_without_the_brain_is_refused(tmp_path):
    with pytest.raises(InputError, match="brain_full"):
        find_scan(tmp_path)
    assert find_scan(tmp_path / "scan.h5") == tmp_path / "scan.h5"
