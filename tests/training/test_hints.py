import pytest
import torch

from chpnet_stream.network.chpnet import build_student
from chpnet_stream.network.config import StudentConfig
from chpnet_training.hints import CommonSpace, Projection
from chpnet_training.losses import charbonnier
from chpnet_training.teacher import SwinTeacher, TeacherConfig
from tests.network.problems import sense_problem


def steps_of(network, problem):
    made = list(network.unroll(problem.start, problem.adjoint, problem.normal, problem.noise))
    begun = [problem.start, *(image for image, _ in made[:-1])]
    return [(image, features) for image, (_, features) in zip(begun, made, strict=True)]


def scene(shape=(24, 20)):
    """Student, teacher, their common space, a problem and its truth, all float64."""
    student = build_student(StudentConfig(widths=(6, 8), iterations=2)).double()
    config = TeacherConfig(width=8, blocks=1, window=4, iterations=3, cg_steps=2)
    teacher = SwinTeacher(config).double()
    space = CommonSpace(6, 2, 2, 8, 2, 3, 2).double()
    problem, truth = sense_problem(shape, acceleration=4, sigma=0.2)
    return student, teacher, space, problem, truth


def gradients(module: torch.nn.Module) -> list[torch.Tensor]:
    return [p.grad for p in module.parameters() if p.grad is not None]


def test_at_first_both_say_what_they_began_with():
    student, teacher, space, problem, truth = scene()
    ours, theirs = steps_of(student, problem), steps_of(teacher, problem)
    transfer, anchor = space(ours, theirs, truth)
    expected = torch.stack([charbonnier(image, truth) for image, _ in theirs]).mean(dim=0)
    torch.testing.assert_close(anchor, expected)
    pairs = [(ours[0], theirs[1]), (ours[1], theirs[2])]
    expected = torch.stack([charbonnier(a[0], b[0]) for a, b in pairs]).mean(dim=0)
    torch.testing.assert_close(transfer, expected)
    assert transfer.shape == anchor.shape == (1,)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (3, 3, [0, 1, 2]),
        (2, 3, [1, 2]),
        (3, 6, [1, 3, 5]),
        (4, 2, [0, 0, 1, 1]),
        (6, 2, [0, 0, 0, 0, 1, 1]),
        (5, 1, [0] * 5),
    ],
)
def test_iterations_are_paired_at_the_same_share_of_the_way(student, teacher, expected):
    found = CommonSpace(4, 2, student, 4, 2, teacher, 2).pairs
    assert found[-1] == teacher - 1
    assert found == sorted(found)
    assert min(found) >= 0
    assert found == expected


def test_the_transfer_goes_to_the_student_only():
    student, teacher, space, problem, truth = scene()
    nudge(space)
    transfer, _ = space(steps_of(student, problem), steps_of(teacher, problem), truth)
    transfer.sum().backward()
    assert all(g.abs().sum() > 0 for g in gradients(student.denoisers[0]))
    assert gradients(student.denoisers[0])
    assert all(g.abs().sum() > 0 for g in gradients(space.student))
    assert gradients(space.student)
    assert not gradients(teacher)
    assert not gradients(space.teacher)


def test_the_anchor_goes_to_the_projections_of_the_teacher_only():
    student, teacher, space, problem, truth = scene()
    nudge(space)
    _, anchor = space(steps_of(student, problem), steps_of(teacher, problem), truth)
    anchor.sum().backward()
    assert all(g.abs().sum() > 0 for g in gradients(space.teacher))
    assert gradients(space.teacher)
    assert not gradients(teacher)
    assert not gradients(student)
    assert not gradients(space.student)


def nudge(space: CommonSpace) -> None:
    """Away from the zeros that the projections begin with."""
    with torch.no_grad():
        for parameter in space.parameters():
            parameter.normal_(std=0.01)


def train(student, parameters, space, theirs, problem, truth) -> list[tuple[float, float]]:
    """Losses of transfer and anchor while both fall."""
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    told = []
    for _ in range(80):
        transfer, anchor = space(steps_of(student, problem), theirs, truth)
        optimizer.zero_grad()
        (transfer + anchor).sum().backward()
        optimizer.step()
        told.append((float(transfer.detach()), float(anchor.detach())))
    return told


@torch.no_grad()
def said_by_a_fresh_student(space, theirs, problem, truth) -> float:
    """Transfer loss of a student that was taught nothing."""
    fresh = CommonSpace(6, 2, 2, 8, 2, 3, 2).double()
    fresh.teacher.load_state_dict(space.teacher.state_dict())
    torch.manual_seed(5)
    student = build_student(StudentConfig(widths=(6, 8), iterations=2)).double()
    return float(fresh(steps_of(student, problem), theirs, truth)[0])


def test_the_space_is_anchored_and_does_not_collapse():
    """Trained on both losses at once, what the teacher says comes nearer to the truth."""
    student, teacher, space, problem, truth = scene()
    with torch.no_grad():
        theirs = steps_of(teacher, problem)
    told = train(student, space.parameters(), space, theirs, problem, truth)
    assert told[-1][1] < 0.93 * told[0][1]
    with torch.no_grad():
        said = theirs[-1][0] + space.teacher[-1](theirs[-1][1], *truth.shape[2:])
        assert said.std() > 0.8 * truth.std()
        # a student that says one value everywhere can't please such a teacher
        for projection in space.student:
            projection.project.weight.zero_()
            projection.project.bias.zero_()
        for value in (0.0, float(truth.mean())):
            constant = [
                (torch.full_like(a, value), torch.zeros_like(b))
                for a, b in steps_of(student, problem)
            ]
            assert float(space(constant, theirs, truth)[0]) > 2 * told[-1][0]


def test_the_student_learns_to_say_what_the_teacher_says():
    student, teacher, space, problem, truth = scene()
    with torch.no_grad():
        theirs = steps_of(teacher, problem)
    parameters = [*student.parameters(), *space.parameters()]
    told = train(student, parameters, space, theirs, problem, truth)
    assert told[-1][0] < 0.7 * said_by_a_fresh_student(space, theirs, problem, truth)


@pytest.mark.parametrize(("matrix", "fold"), [((24, 20), 2), ((15, 17), 2), ((12, 20), 4)])
def test_a_projection_is_cut_to_the_matrix(matrix, fold):
    padded = [-(-n // 8) * 8 for n in matrix]
    projection = Projection(5, 2, fold)
    image = projection(torch.randn(3, 5, *(n // fold for n in padded)), *matrix)
    assert image.shape == (3, 2, *matrix)
    assert not image.any()
