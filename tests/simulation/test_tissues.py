import numpy as np
import pytest

from chpnet_stream.simulation.tissues import Tissue, tissue_signals


@pytest.mark.parametrize("weighting", ["t1", "t2"])
def test_every_tissue_has_a_signal_between_zero_and_one(weighting: str) -> None:
    signals = tissue_signals(weighting)
    assert signals.shape == (len(Tissue),)
    assert signals.dtype == np.float32
    assert signals[Tissue.AIR] == 0
    assert (signals[1:] > 0).all()
    assert (signals < 1).all()


def test_later_echoes_decay_with_t2() -> None:
    early, late = tissue_signals("t2", 80.0), tissue_signals("t2", 149.0)
    assert late[Tissue.WHITE] / early[Tissue.WHITE] == pytest.approx(np.exp(-1), rel=1e-5)
    assert late[Tissue.CSF] / early[Tissue.CSF] > 0.9
