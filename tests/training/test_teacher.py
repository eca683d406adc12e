import copy
import math
import time

import pytest
import torch
from pydantic import ValidationError

from chpnet_training.macs import count_macs
from chpnet_training.teacher import SwinStage, SwinTeacher, TeacherConfig
from tests.network.models import TASKS
from tests.network.problems import problem_of, sense_problem, solve

EACH_TASK = pytest.mark.parametrize("task", TASKS)
SMALL = TeacherConfig(width=8, heads=2, blocks=2, window=4, iterations=2, cg_steps=2)


def make_teacher(task: str = "kspace", strength: float = 10.0) -> SwinTeacher:
    """A teacher with random weights that does something, in float64."""
    torch.manual_seed(11)
    teacher = SwinTeacher(SMALL, task).double()
    with torch.no_grad():
        for stage in teacher.stages:
            stage.tail.weight.mul_(strength)
    return teacher


def close(teacher: SwinTeacher, *blocks: int) -> None:
    """Close some of the gates for good, and open the others."""
    with torch.no_grad():
        teacher.gates.logits.fill_(5.0)
        teacher.gates.logits[list(blocks)] = -5.0


@EACH_TASK
@pytest.mark.parametrize("scale", [1e-3, 40.0])
def test_units_do_not_matter(task, scale):
    teacher = make_teacher(task)
    problem, _ = problem_of(task, (16, 20), sigma=0.05)
    found = teacher(
        scale * problem.start, scale * problem.adjoint, problem.normal, scale * problem.noise
    )
    torch.testing.assert_close(found, scale * solve(teacher, problem), rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize("shape", [(33, 47), (8, 9), (5, 7), (40, 24)])
def test_any_matrix_of_kspace(shape):
    problem, truth = sense_problem(shape)
    found = solve(make_teacher(), problem)
    assert found.shape == truth.shape
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("shape", [(20, 12), (4, 28)])
def test_any_matrix_of_superres(shape, factor):
    problem, truth = problem_of("superres", shape, factor=factor)
    found = solve(make_teacher("superres"), problem)
    assert found.shape == truth.shape
    assert found.shape[1] == 1
    assert torch.isfinite(found).all()


@EACH_TASK
def test_a_batch_is_its_slices(task):
    teacher = make_teacher(task)
    problem, _ = problem_of(task, (16, 20), batch=3, sigma=0.05)
    together = solve(teacher, problem)
    for i in range(3):
        start, adjoint = (v[i : i + 1].expand_as(v) for v in (problem.start, problem.adjoint))
        alone = teacher(start, adjoint, problem.normal, problem.noise)[i]
        torch.testing.assert_close(alone, together[i])
    noisier = teacher(problem.start, problem.adjoint, problem.normal, 3 * problem.noise)
    assert not torch.allclose(noisier, together, rtol=1e-3)


@torch.no_grad()
def test_clean_full_data_are_believed_whatever_the_weights():
    """(N + 1e-4) x = A*y + 1e-4 z, as for the student."""
    problem, truth = sense_problem((24, 20), acceleration=1, sigma=0.0)
    found = solve(make_teacher(strength=5.0), problem)
    peak = truth.abs().max()
    torch.testing.assert_close(problem.adjoint, truth)
    error = float((found - truth).abs().max() / peak)
    assert error < 5e-3
    moved = make_teacher(strength=5.0)(
        problem.start, problem.adjoint, problem.normal, problem.noise + 0.5
    )
    assert float((moved - truth).abs().max() / peak) > 10 * error


@torch.no_grad()
def test_clean_measured_pixels_are_kept():
    problem, _ = problem_of("superres", (16, 20), sigma=0.0)
    residual = problem.normal(solve(make_teacher("superres"), problem)) - problem.adjoint
    assert float(residual.norm() / problem.adjoint.norm()) < 5e-3


@EACH_TASK
def test_every_parameter_learns(task):
    teacher = make_teacher(task)
    problem, truth = problem_of(task, (16, 20), sigma=0.05)
    close(teacher)
    with torch.no_grad():
        teacher.gates.logits.fill_(1.0)  # not quite open: a value with a gradient
    (solve(teacher, problem) - truth).square().mean().backward()
    for name, parameter in teacher.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert (teacher.gates.logits.grad != 0).all()


@EACH_TASK
def test_gradient_of_the_image(task):
    teacher = make_teacher(task)
    problem, _ = problem_of(task, (6, 8), sigma=0.05)
    assert torch.autograd.gradcheck(
        lambda start, noise: teacher(start, problem.adjoint, problem.normal, noise),
        (problem.start.clone().requires_grad_(), problem.noise.clone().requires_grad_()),
        fast_mode=True,
    )


def test_forward_is_the_last_iteration():
    teacher = make_teacher()
    problem, _ = sense_problem((15, 18), batch=2)
    steps = list(teacher.unroll(problem.start, problem.adjoint, problem.normal, problem.noise))
    assert len(steps) == SMALL.iterations
    assert torch.equal(steps[-1][0], solve(teacher, problem))
    assert not torch.allclose(steps[0][0], steps[-1][0])
    for made, features in steps:
        assert made.shape == (2, 2, 15, 18)
        assert features.shape == (2, 8, 8, 12)  # 16 x 24 pixels, folded by 2


@pytest.mark.parametrize("closed", [(0,), (1, 2), (0, 1, 2, 3)])
@torch.no_grad()
def test_closed_blocks_are_not_computed_and_their_weights_do_not_matter(closed):
    teacher = make_teacher()
    problem, _ = sense_problem((16, 24))
    close(teacher)
    before = solve(teacher, problem)
    close(teacher, *closed)
    blocks = [block for stage in teacher.stages for block in stage.blocks]
    calls = [0] * len(blocks)

    def count(number: int):
        def hook(*_: object) -> None:
            calls[number] += 1

        return hook

    handles = [block.register_forward_hook(count(i)) for i, block in enumerate(blocks)]
    found = solve(teacher, problem)
    assert calls == [int(i not in closed) for i in range(len(blocks))]
    assert not torch.allclose(found, before)
    assert teacher.gates.open_blocks() == [i not in closed for i in range(len(blocks))]
    for handle in handles:
        handle.remove()
    for i in closed:
        for parameter in blocks[i].parameters():
            parameter.fill_(torch.nan)
    assert torch.equal(solve(teacher, problem), found)


@torch.no_grad()
def test_closed_blocks_save_arithmetic_and_time():
    torch.manual_seed(1)
    stage = SwinStage(5, 3, TeacherConfig(width=32, blocks=6, iterations=1), state=False)
    x = torch.randn(1, 5, 128, 128)

    def seconds(gates: torch.Tensor) -> float:
        stage(x, None, gates)
        taken = []
        for _ in range(4):
            begin = time.perf_counter()
            stage(x, None, gates)
            taken.append(time.perf_counter() - begin)
        return min(taken)

    assert seconds(torch.ones(6)) > 1.5 * seconds(torch.zeros(6))

    teacher = SwinTeacher(SMALL)
    whole = count_macs(teacher, 32, 32)
    close(teacher, 0, 1, 2, 3)
    none = count_macs(teacher, 32, 32)
    close(teacher, 1, 2, 3)
    assert whole - none == pytest.approx(4 * (count_macs(teacher, 32, 32) - none))
    assert none < 0.8 * whole


def test_drawn_gates_close_blocks_now_and_then():
    teacher = make_teacher()
    teacher.gates.learning = True
    with torch.no_grad():
        teacher.gates.logits.fill_(-1.0)
    problem, truth = sense_problem((16, 16))
    images = [solve(teacher, problem) for _ in range(4)]
    assert not torch.allclose(images[0], images[1])
    sum((image - truth).square().mean() for image in images).backward()
    assert teacher.gates.logits.grad.abs().sum() > 0


def test_a_copy_does_not_share_weights():
    teacher = make_teacher()
    problem, _ = sense_problem((16, 16))
    before = solve(teacher, problem)
    twin = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.1)
    assert torch.equal(solve(teacher, problem), before)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 30, "heads": 4}, "4 heads divide, found 30"),
        ({"blocks": 0}, "blocks"),
        ({"ratio": math.inf}, "finite number"),
        ({"ratio": math.nan}, "finite number"),
        ({"width": 8, "ratio": 0.1}, "no hidden channel"),
        ({"x": 1}, "x"),
    ],
)
def test_impossible_sizes_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        TeacherConfig(**changes)
