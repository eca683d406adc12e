import pytest
import torch

from chpnet_training import scoring
from chpnet_training.losses import (
    charbonnier,
    edges,
    image_loss,
    magnitude,
    structural_similarity,
)
from tests.physics.cases import phantom


def pair(shape=(2, 2, 16, 14)):
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(shape, dtype=torch.float64, generator=generator)
    return target + 0.1 * torch.randn(shape, dtype=torch.float64, generator=generator), target


@pytest.mark.parametrize("channels", [1, 2])
def test_gradients(channels):
    x, target = pair((1, channels, 9, 8))
    x = x.requires_grad_()
    peak = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: charbonnier(v, target), x)
    assert torch.autograd.gradcheck(magnitude, x)
    assert torch.autograd.gradcheck(lambda v: edges(magnitude(v)), x)
    assert torch.autograd.gradcheck(
        lambda v: structural_similarity(magnitude(v), magnitude(target), peak), x
    )
    assert torch.autograd.gradcheck(lambda v: image_loss(v, target)["loss"], x)


def test_gradient_is_finite_at_zero_and_at_the_target():
    target = torch.zeros(1, 2, 12, 12)
    x = torch.zeros(1, 2, 12, 12, requires_grad=True)
    image_loss(x, target)["loss"].sum().backward()
    assert torch.isfinite(x.grad).all()


def test_the_truth_costs_nothing():
    _, target = pair()
    terms = image_loss(target, target)
    assert terms["loss"].tolist() == pytest.approx([0, 0], abs=1e-9)
    assert terms["ssim"].tolist() == pytest.approx([1, 1])
    x, _ = pair()
    worse = image_loss(x, target)
    assert (worse["loss"] > 0.05).all()
    parts = worse["image"] + 0.3 * worse["edge"] + 0.1 * (1 - worse["ssim"])
    torch.testing.assert_close(worse["loss"], parts)


def test_a_wrong_phase_costs():
    _, target = pair()
    turned = torch.stack([-target[:, 1], target[:, 0]], dim=1)
    terms = image_loss(turned, target)
    assert (terms["image"] > 0.3).all()
    assert terms["ssim"].tolist() == pytest.approx([1, 1])


def test_ssim_is_that_of_the_score_and_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    truth = phantom((40, 36))
    found = truth + 0.05 * torch.randn(40, 36, dtype=torch.float64)
    peak = float(truth.max())
    ours = structural_similarity(
        found[None, None], truth[None, None], torch.full((1, 1, 1, 1), peak, dtype=torch.float64)
    )
    assert float(ours) == pytest.approx(
        metrics.structural_similarity(truth.numpy(), found.numpy(), data_range=peak), abs=1e-10
    )
    positive = found.clamp_min(0)  # scores compare magnitudes
    ours = structural_similarity(
        positive[None, None], truth[None, None], torch.full((1, 1, 1, 1), peak, dtype=torch.float64)
    )
    assert float(ours) == pytest.approx(scoring.ssim(positive.numpy(), truth.numpy()), abs=1e-10)


def test_every_image_has_its_own_loss():
    x, target = pair((3, 2, 16, 14))
    together = image_loss(x, target)
    for i in range(3):
        alone = image_loss(x[i : i + 1], target[i : i + 1])
        for name, values in together.items():
            assert values.shape == (3,)
            assert float(values[i]) == pytest.approx(float(alone[name]))


def test_a_term_without_weight_is_not_there():
    x, target = pair()
    terms = image_loss(x, target, edge_weight=0.0, ssim_weight=0.0)
    assert torch.equal(terms["loss"], terms["image"])
    assert not terms["ssim"].any()


def test_ssim_of_a_batch_has_one_value_an_image():
    x, target = pair((3, 1, 16, 16))
    peak = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64).reshape(3, 1, 1, 1)
    each = [
        float(structural_similarity(x[i : i + 1], target[i : i + 1], peak[i : i + 1]))
        for i in range(3)
    ]
    assert structural_similarity(x, target, peak).tolist() == pytest.approx(each)


def test_edges_of_a_ramp_are_its_slope():
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(9.0), indexing="ij")
    gradient = edges((2 * y - 0.5 * x)[None, None])
    assert gradient.shape == (1, 2, 8, 9)
    inner = gradient[0, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner[0], torch.full_like(inner[0], 2.0))
    torch.testing.assert_close(inner[1], torch.full_like(inner[1], -0.5))
    assert not edges(torch.ones(1, 1, 5, 5)).any()


def test_charbonnier_is_the_distance_of_complex_numbers_once_it_is_large():
    target = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    x = target.clone()
    x[:, 0], x[:, 1] = 3.0, 4.0
    assert float(charbonnier(x, target)) == pytest.approx(5.0, abs=2e-3)
    assert float(charbonnier(target, target)) == pytest.approx(0.0, abs=1e-12)
