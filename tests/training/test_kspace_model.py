import numpy as np
import pytest

from chpnet_stream.network.weights import find_model
from chpnet_training.cli import main
from chpnet_training.cmd_evaluate import SCORES, card_metrics
from tests.training.tiny import tiny_bank


@pytest.mark.parametrize("verb", ["evaluate", "tune", "gate"])
def test_models_for_coarse_images_are_refused(small_scan, tmp_path, capsys, verb):
    """The image of another method would be scored as theirs."""
    np.save(tmp_path / "image.npy", np.ones((48, 48), dtype=np.complex64))
    words = {
        "evaluate": ["chpnet-sr", "--data", str(small_scan), "--no-bart"],
        "tune": ["chpnet-sr", str(tmp_path / "image.npy")],
        "gate": [
            str(find_model("chpnet-sr").folder / "chpnet-sr.json"),
            "--dry-run",
            "--data",
            str(tiny_bank(tmp_path / "bank.h5")),
        ],
    }
    with pytest.raises(SystemExit) as stop:
        main([verb, *words[verb]])
    assert stop.value.code == 2
    assert "expected a model for 'kspace', found one for 'superres'" in capsys.readouterr().err


def test_scores_for_a_card_tell_images_that_are_not_by_the_network():
    scores = dict.fromkeys(SCORES, 1.0)
    rows = [
        {"method": "cg-sense", "slices": 3, "fallbacks": 0, **scores},
        {"method": "chpnet", "slices": 3, "fallbacks": 2, **scores},
    ]
    settings = {"data": "scan.h5", "acceleration": 4, "calibration_lines": 24}
    assert list(card_metrics(rows, settings)) == [
        "scan.h5 R = 4 + 24 lines (2 of 3 images not by the network)",
        "CG-SENSE on scan.h5 R = 4 + 24 lines",
    ]
    rows[1]["fallbacks"] = 0
    assert "scan.h5 R = 4 + 24 lines" in card_metrics(rows, settings)
