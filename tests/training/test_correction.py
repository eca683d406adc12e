import pytest
import torch

from chpnet_training.correction import NEIGHBOURHOOD, correct, local_error
from tests.physics.cases import phantom


def truth_of(channels: int = 2, shape=(40, 36)) -> torch.Tensor:
    """`1 channels y x` with edges, float64."""
    image = phantom(shape)
    return torch.stack([image, 0.5 * image.flip(0)][:channels])[None]


def noisy(truth: torch.Tensor, sigma: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return truth + sigma * torch.randn(truth.shape, dtype=truth.dtype, generator=generator)


def distance(image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Error in each pixel, `batch y x`."""
    return (image - truth).square().sum(dim=1).sqrt()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("edge_weight", [0.0, 1.0])
def test_the_target_is_nearer_to_the_truth_in_every_pixel(channels, edge_weight):
    truth = truth_of(channels)
    teacher, student = noisy(truth, 0.1, 1), noisy(truth, 0.1, 2)
    made = correct(teacher, student, truth, edge_weight)
    assert made.target.shape == truth.shape
    assert made.trust.shape == (1, 1, 40, 36)
    before, after = distance(teacher, truth), distance(made.target, truth)
    torch.testing.assert_close(after, made.trust[:, 0] * before)
    worse = local_error(teacher, truth, edge_weight) > local_error(student, truth, edge_weight)
    assert 0.2 < worse.double().mean() < 0.8
    assert (after[worse[:, 0]] < before[worse[:, 0]]).all()
    assert (after <= before).all()


def test_trust_is_the_ratio_of_the_errors():
    truth = truth_of()
    teacher = truth + 0.2
    half = correct(teacher, truth + 0.2 / 2**0.5, truth, 0.0)
    torch.testing.assert_close(half.trust, torch.full_like(half.trust, 0.5))
    assert float(half.share) == pytest.approx(0.75)
    same = correct(teacher, truth - 0.2, truth, 0.0)
    torch.testing.assert_close(same.trust, torch.ones_like(same.trust))
    torch.testing.assert_close(same.target, teacher)
    assert float(same.share) == pytest.approx(0.0)


@pytest.mark.parametrize("edge_weight", [0.0, 3.0])
def test_trust_and_share_are_shares(edge_weight):
    truth = truth_of()
    for wrong_teacher, wrong_student in ((0.3, 0.01), (0.01, 0.3), (0.0, 0.1), (0.1, 0.0), (0, 0)):
        made = correct(noisy(truth, wrong_teacher, 1), noisy(truth, wrong_student, 2), truth)
        assert torch.isfinite(made.trust).all()
        assert 0 <= float(made.trust.min()) <= float(made.trust.max()) <= 1
        assert 0 <= float(made.share) <= 1


def test_a_teacher_that_is_better_everywhere_keeps_its_word():
    truth = truth_of()
    teacher = noisy(truth, 0.01, 1)
    made = correct(teacher, noisy(truth, 0.3, 2), truth)
    assert torch.equal(made.trust, torch.ones_like(made.trust))
    torch.testing.assert_close(made.target, teacher)


def test_nothing_is_learned_from_a_teacher_that_is_far_worse():
    truth = truth_of()
    made = correct(noisy(truth, 0.3, 1), noisy(truth, 0.01, 2), truth)
    assert float(made.share) > 0.99
    assert float((made.target - truth).norm()) < 0.1 * 0.3 * truth.numel() ** 0.5


def test_a_wrong_edge_costs_the_teacher_its_word_there_and_only_there():
    truth = torch.zeros(1, 1, 24, 24, dtype=torch.float64)
    truth[..., 12:] = 1.0
    teacher = truth.clone()
    teacher[:, :, 8:16, 12] = 0.0  # the edge a pixel further right
    student = truth + 0.05
    made = correct(teacher, student, truth)
    reach = NEIGHBOURHOOD // 2
    assert (made.trust[0, 0, 8:16, 10:15] < 0.05).all()
    assert (made.trust[0, 0, :, : 12 - reach - 1] == 1).all()
    assert (made.trust[0, 0, : 8 - reach - 1] == 1).all()
    assert 0.9 < float(made.share) < 1


def test_edges_count_more_the_larger_their_weight():
    """The same energy of error: spread evenly it is no edge, as a stripe it is one."""
    truth = truth_of(1)
    stripe = torch.zeros_like(truth)
    stripe[..., ::2] = 0.1 * 2**0.5
    smooth = torch.full_like(truth, 0.1)
    plain, striped = (local_error(truth + e, truth, 0.0).mean() for e in (smooth, stripe))
    torch.testing.assert_close(plain, striped, rtol=0.02, atol=0)
    weighted = [local_error(truth + stripe + 1.0, truth, w).mean() for w in (0.0, 1.0, 4.0)]
    assert weighted[0] < weighted[1] < weighted[2]
    student = truth + smooth
    trusts = [correct(truth + 1.5 * stripe, student, truth, w).trust.mean() for w in (0.0, 10.0)]
    assert trusts[1] < trusts[0]


def test_errors_are_averaged_over_a_neighbourhood():
    truth = torch.zeros(1, 1, 15, 15, dtype=torch.float64)
    image = truth.clone()
    image[0, 0, 7, 7] = 2.0
    found = local_error(image, truth, 0.0)[0, 0]
    reach = NEIGHBOURHOOD // 2
    assert torch.allclose(
        found[7 - reach : 8 + reach, 7 - reach : 8 + reach], truth.new_tensor(4 / 25)
    )
    assert float(found.sum()) == pytest.approx(4.0)
    corner = truth.clone()
    corner[0, 0, 0, 0] = 2.0
    assert float(local_error(corner, truth, 0.0)[0, 0, 0, 0]) == pytest.approx(4 / 9)


def test_the_target_depends_on_teacher_and_student():
    truth = truth_of()
    teacher, student = noisy(truth, 0.1, 1), noisy(truth, 0.1, 2)
    made = correct(teacher, student, truth)
    assert made.trust.std() > 0.05
    for other in (
        correct(noisy(truth, 0.1, 3), student, truth),
        correct(teacher, noisy(truth, 0.1, 3), truth),
    ):
        assert not torch.allclose(other.trust, made.trust, atol=1e-3)
        assert not torch.allclose(other.target, made.target, atol=1e-3)


def test_a_batch_is_its_images():
    truth = truth_of().repeat(2, 1, 1, 1)
    teacher, student = noisy(truth, 0.1, 1), noisy(truth, 0.1, 2)
    both = correct(teacher, student, truth)
    for i in range(2):
        one = correct(teacher[i : i + 1], student[i : i + 1], truth[i : i + 1])
        torch.testing.assert_close(both.target[i : i + 1], one.target)
        torch.testing.assert_close(both.share[i : i + 1], one.share)
