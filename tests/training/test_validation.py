import pytest
import torch

from chpnet_training import scoring
from chpnet_training.dataset import Slices, collate
from chpnet_training.validation import nmse, psnr, psnr_of, score_images, validate
from tests.physics.cases import phantom
from tests.training.tiny import tiny_bank, tiny_recipe


def test_psnr_and_nmse_of_a_constant_error():
    target = torch.ones(2, 1, 4, 4)
    target[1] *= 2
    assert psnr(target + 0.1, target).tolist() == pytest.approx([20, 26.02], abs=0.01)
    assert nmse(target + 0.1, target).tolist() == pytest.approx([0.01, 0.0025], rel=1e-4)


def test_scores_are_those_that_models_are_measured_with():
    truth = phantom((40, 36))
    found = (truth + 0.05 * torch.randn(40, 36, dtype=torch.float64)).clamp_min(0)
    scores = score_images(found[None, None], truth[None, None])
    ours = {name: float(values) for name, values in scores.items()}
    assert ours["ssim"] == pytest.approx(scoring.ssim(found.numpy(), truth.numpy()), abs=1e-4)
    error = (found - truth).square()
    assert ours["nmse"] == pytest.approx(float(error.sum() / truth.square().sum()), rel=1e-4)
    peak = float(truth.max())
    expected = 10 * torch.log10(peak**2 / error.mean())
    assert ours["psnr"] == pytest.approx(float(expected), abs=1e-3)


def test_phase_does_not_count():
    truth = torch.rand(2, 2, 8, 8)
    turned = torch.stack([-truth[:, 1], truth[:, 0]], dim=1)
    assert (psnr_of(turned, truth) > 100).all()


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    bank = tiny_bank(tmp_path_factory.mktemp("bank") / "bank.h5")
    slices = Slices(bank, "val", tiny_recipe())
    return [collate(slices[i]) for i in range(3)]


def test_validation_is_the_mean_over_slices(batches):
    def halfway(start, adjoint, normal, noise):
        truth = next(b.target for b in batches if b.start is start)
        return 0.5 * (start + truth)

    scores = validate(halfway, batches)
    starts = [float(psnr_of(b.start, b.target)) for b in batches]
    assert scores["start_psnr"] == pytest.approx(sum(starts) / 3)
    assert scores["start_psnr"] + 3 < scores["psnr"] < scores["start_psnr"] + 9
    assert scores["ssim"] > scores["start_ssim"]
    assert scores["nmse"] < scores["start_nmse"]


def test_devices_add_up_what_they_scored(batches):
    def as_it_was(start, adjoint, normal, noise):
        return start

    parts = []
    validate(as_it_was, batches[:1], lambda sums: parts.append(sums) or sums)
    together = validate(as_it_was, batches[1:], lambda sums: sums + parts[0])
    assert together == pytest.approx(validate(as_it_was, batches))
    # a device without a batch of its own takes part all the same
    assert validate(as_it_was, [], lambda sums: sums + parts[0]) == pytest.approx(
        validate(as_it_was, batches[:1])
    )
