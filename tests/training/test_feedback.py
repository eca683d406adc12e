import pytest
import torch

from chpnet_training.feedback import MEMORY, Feedback, pull, usefulness
from tests.physics.cases import phantom


def truth_of() -> torch.Tensor:
    """`2 2 y x`, float64."""
    image = phantom((48, 40))
    return torch.stack([image, image.flip(1)])[None].repeat(2, 1, 1, 1)


def noise(like: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, dtype=like.dtype, generator=generator)


def ratio(student: torch.Tensor, teacher: torch.Tensor, truth: torch.Tensor) -> float:
    agreement, distance = usefulness(student, teacher, truth)
    return float(agreement / distance)


def test_a_perfect_teacher_is_fully_useful():
    truth = truth_of()
    assert ratio(truth + 0.1 * noise(truth, 1), truth, truth) == pytest.approx(1.0)


@pytest.mark.parametrize(("wrong", "expected"), [(0.1, 0.5), (0.05, 0.8), (0.3, 0.1)])
def test_independent_errors(wrong, expected):
    """e_S^2 / (e_S^2 + e_T^2): one half where both are equally wrong."""
    truth = truth_of()
    found = ratio(truth + 0.1 * noise(truth, 1), truth + wrong * noise(truth, 2), truth)
    assert found == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("k", [1.5, 2.0, 6.0])
def test_a_teacher_that_leads_away_is_harmful(k):
    truth = truth_of()
    student = truth + 0.1 * noise(truth, 1)
    assert ratio(student, truth + k * (student - truth), truth) == pytest.approx(1 / (1 - k))


@pytest.mark.parametrize("k", [-1.0, 0.0, 0.5])
def test_a_teacher_on_the_way_shows_the_way(k):
    truth = truth_of()
    student = truth + 0.1 * noise(truth, 1)
    assert ratio(student, truth + k * (student - truth), truth) == pytest.approx(1 / (1 - k))


def test_it_is_the_best_step_towards_the_teacher():
    truth = truth_of()
    student = truth + 0.1 * noise(truth, 1)
    teacher = truth + 0.07 * noise(truth, 2) + 0.4 * (student - truth)
    shares = torch.linspace(-1, 2, 3001, dtype=torch.float64)
    errors = [float((student + u * (teacher - student) - truth).square().sum()) for u in shares]
    best = float(shares[min(range(len(errors)), key=errors.__getitem__)])
    assert 0.1 < best < 0.95
    assert ratio(student, teacher, truth) == pytest.approx(best, abs=1e-3)


def test_it_is_the_agreement_of_the_gradients():
    truth = truth_of()
    student = (truth + 0.1 * noise(truth, 1)).requires_grad_()
    teacher = truth + 0.2 * noise(truth, 2)
    (taught,) = torch.autograd.grad(0.5 * (student - teacher).square().sum(), student)
    (told,) = torch.autograd.grad(0.5 * (student - truth).square().sum(), student)
    expected = (taught * told).sum() / taught.square().sum()
    assert ratio(student.detach(), teacher, truth) == pytest.approx(float(expected))


def test_pull_has_a_gradient_only_where_the_student_is_nearer():
    truth = truth_of()
    teacher = (truth + 0.1 * noise(truth, 1)).requires_grad_()
    student = truth + 0.1 * noise(truth, 2)
    loss = pull(student, teacher, truth)
    assert loss.shape == (2,)
    loss.sum().backward()
    ahead = (student - truth).square().sum(1) < (teacher - truth).detach().square().sum(1)
    assert 0.3 < ahead.double().mean() < 0.7
    moved = teacher.grad.abs().sum(dim=1)
    assert (moved[ahead] > 0).all()
    assert (moved[~ahead] == 0).all()
    # towards the truth
    assert ((teacher.grad * (teacher - truth).detach()).sum(1)[ahead] > 0).all()


def test_pull_is_nothing_for_a_teacher_that_is_ahead_everywhere():
    truth = truth_of()
    assert not pull(truth + 1.0, truth + 0.1 * noise(truth, 1).clamp(-1, 1), truth).any()
    behind = pull(truth, truth + 0.1, truth)
    torch.testing.assert_close(behind, torch.full_like(behind, 0.1 * 2**0.5), atol=1e-6, rtol=0)


def test_gradient_of_the_pull():
    truth = truth_of()[:1, :, :6, :6]
    student = truth + 0.1 * noise(truth, 2)
    teacher = (truth + 0.1 * noise(truth, 1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: pull(student, t, truth), teacher)


def test_before_the_first_step_the_teacher_is_believed():
    fresh = Feedback()
    assert (fresh.usefulness, fresh.lag, fresh.weight) == (1.0, 0.0, 1.0)


def test_running_means():
    truth = truth_of()
    student, good, bad = truth + 0.2, truth + 0.1, truth + 0.6
    feedback = Feedback()
    feedback.add(feedback.sums(student, good, truth))
    assert feedback.usefulness == pytest.approx(2.0)  # the truth lies twice as far
    assert feedback.lag == pytest.approx(3.0)
    assert feedback.weight == 1.0
    sums = [feedback.sums(student, good, truth), feedback.sums(student, bad, truth)]
    feedback.add(sums[1])
    mixed = MEMORY * sums[0] + sums[1]
    assert feedback.usefulness == pytest.approx(float(mixed[0] / mixed[1]))
    assert feedback.lag == pytest.approx(float(mixed[2] / mixed[3]) - 1)
    for _ in range(200):
        feedback.add(sums[1])
    assert feedback.usefulness == pytest.approx(-0.5, abs=1e-3)
    assert feedback.weight == 0.0
    assert feedback.lag == pytest.approx(1 / 9 - 1, abs=1e-3)


@pytest.mark.parametrize(("useful_from", "expected"), [(0.0, 0.5), (0.5, 0.0), (0.25, 1 / 3)])
def test_a_teacher_no_better_than_its_student_may_have_no_weight(useful_from, expected):
    """Independent errors of the same size: usefulness 1/2."""
    truth = truth_of()
    student, teacher = truth.clone(), truth.clone()
    student[..., ::2] += 0.1
    teacher[..., 1::2] += 0.1
    feedback = Feedback(useful_from)
    feedback.add(feedback.sums(student, teacher, truth))
    assert feedback.usefulness == pytest.approx(0.5, abs=1e-5)
    assert feedback.weight == pytest.approx(expected, abs=1e-5)
    assert Feedback(useful_from).weight == 1.0  # before the first step


@pytest.mark.parametrize(("full_lag", "expected"), [(0.0, 1.0), (0.22, 0.5), (0.1, 1.0)])
def test_a_student_that_has_nearly_caught_up_is_taught_less(full_lag, expected):
    """It is right behind its teacher on the way to the truth: the usefulness can't tell."""
    truth = truth_of()
    feedback = Feedback(full_lag=full_lag)
    assert feedback.weight == 1.0  # before the first step
    feedback.add(feedback.sums(truth + 0.1 * 1.11**0.5, truth + 0.1, truth))
    assert feedback.usefulness > 10
    assert feedback.lag == pytest.approx(0.11, abs=1e-3)
    assert feedback.weight == pytest.approx(expected, abs=0.01)


def test_a_student_that_is_ahead_is_not_taught():
    truth = truth_of()
    feedback = Feedback(full_lag=0.3)
    for _ in range(200):
        feedback.add(feedback.sums(truth + 0.09, truth + 0.1, truth))
    assert feedback.weight == 0.0
    for _ in range(200):
        feedback.add(feedback.sums(truth + 0.2, truth + 0.1, truth))
    assert feedback.weight == 1.0


def test_sums_of_parts_are_those_of_the_whole():
    """As devices add theirs up."""
    truth = truth_of()
    student, teacher = truth + 0.1 * noise(truth, 1), truth + 0.1 * noise(truth, 2)
    feedback = Feedback()
    parts = sum(
        feedback.sums(student[i : i + 1], teacher[i : i + 1], truth[i : i + 1]) for i in range(2)
    )
    torch.testing.assert_close(parts, feedback.sums(student, teacher, truth))


def test_what_is_kept_goes_on():
    truth = truth_of()
    first, second = Feedback(), Feedback()
    first.add(first.sums(truth + 0.2, truth + 0.1, truth))
    second.load_state_dict(first.state_dict())
    for feedback in (first, second):
        feedback.add(feedback.sums(truth - 0.1, truth + 0.3, truth))
    assert first.state_dict() == second.state_dict()
    assert first.usefulness == second.usefulness
