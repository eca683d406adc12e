import pytest
import torch
from pydantic import ValidationError

from chpnet_stream.network.chpnet import CHPNet, CHPNetRT, build_student
from chpnet_stream.network.config import StudentConfig
from chpnet_training.macs import count_macs
from tests.network.models import ARCHITECTURES, TASKS, tiny_config, untrained
from tests.network.problems import problem_of, sense_problem, solve

BOTH = pytest.mark.parametrize("architecture", ARCHITECTURES)
EACH_TASK = pytest.mark.parametrize("task", TASKS)


def gmac(student: torch.nn.Module, size: int = 320) -> float:
    return count_macs(student, size, size) / 1e9


def count(student: torch.nn.Module) -> int:
    return sum(p.numel() for p in student.parameters())


def test_the_paper_size():
    student = build_student(StudentConfig.paper())
    assert isinstance(student, CHPNet)
    assert 1.25e6 < count(student) < 1.4e6
    assert 200 < gmac(student) < 225


def test_the_real_time_student_is_ten_times_lighter():
    student = build_student(StudentConfig())
    assert isinstance(student, CHPNetRT)
    assert gmac(student) < gmac(build_student(StudentConfig.paper())) / 10
    assert count(student) * 2 < 5e6  # bytes in half precision


def test_gmac_counts_multiplications_of_convolutions():
    """One level of a tiny network by hand."""
    student = build_student(tiny_config("chpnet"))
    size, widths = 16, (4, 8)
    full = 3 * widths[0] + 2 * 2 * widths[0] ** 2 + 2 * widths[0] ** 2 + widths[0] * 2
    half = widths[0] * widths[1] + 4 * widths[1] ** 2
    up = widths[1] * 4 * widths[0] / 9  # its kernel is 1 x 1, at half the matrix
    unshuffled = StudentConfig(architecture="chpnet", widths=widths, unshuffle=1, iterations=1)
    expected = 9 * (full * size**2 + (half + up) * (size / 2) ** 2) / 1e9
    assert gmac(build_student(unshuffled), size) == pytest.approx(expected)
    assert count(student) > 0


@BOTH
@EACH_TASK
@pytest.mark.parametrize("scale", [1e-3, 40.0])
def test_units_do_not_matter(architecture, task, scale):
    student = untrained(tiny_config(architecture, task)).double()
    problem, _ = problem_of(task, (16, 20), sigma=0.05)
    expected = scale * solve(student, problem)
    found = student(
        scale * problem.start, scale * problem.adjoint, problem.normal, scale * problem.noise
    )
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * scale)


@BOTH
@pytest.mark.parametrize("shape", [(33, 47), (8, 9), (5, 7), (40, 24)])
def test_any_matrix_of_kspace(architecture, shape):
    problem, truth = sense_problem(shape)
    image = solve(untrained(tiny_config(architecture)).double(), problem)
    assert image.shape == truth.shape
    assert torch.isfinite(image).all()


@BOTH
@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("shape", [(20, 12), (4, 28)])
def test_any_matrix_of_superres(architecture, shape, factor):
    problem, truth = problem_of("superres", shape, factor=factor)
    image = solve(untrained(tiny_config(architecture, "superres")).double(), problem)
    assert image.shape == truth.shape
    assert image.shape[1] == 1
    assert torch.isfinite(image).all()


@BOTH
@EACH_TASK
def test_a_batch_is_its_slices(architecture, task):
    student = untrained(tiny_config(architecture, task)).double()
    problem, _ = problem_of(task, (16, 20), batch=3, sigma=0.05)
    together = solve(student, problem)
    noise = problem.noise * torch.tensor([1.0, 0.1, 3.0], dtype=torch.float64).reshape(3, 1, 1, 1)
    varied = student(problem.start, problem.adjoint, problem.normal, noise)
    torch.testing.assert_close(varied[0], together[0])
    assert not torch.allclose(varied[1], together[1], rtol=1e-3)  # the noise level is heard
    for i in range(3):
        # the same slice in every place, so that each has the operator of entry i
        start, adjoint = (v[i : i + 1].expand_as(v) for v in (problem.start, problem.adjoint))
        alone = student(start, adjoint, problem.normal, problem.noise)[i]
        torch.testing.assert_close(alone, together[i])


@BOTH
@EACH_TASK
def test_every_parameter_learns(architecture, task):
    student = untrained(tiny_config(architecture, task)).double()
    problem, truth = problem_of(task, (16, 20), sigma=0.05)
    (solve(student, problem) - truth).square().mean().backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@BOTH
@EACH_TASK
def test_thirty_steps_of_training_beat_the_start(architecture, task):
    torch.manual_seed(2)
    config = StudentConfig(architecture=architecture, task=task, widths=(8, 16), iterations=2)
    student = build_student(config)
    problem, truth = problem_of(task, (32, 40), batch=2, sigma=0.02, dtype=torch.float32)
    optimizer = torch.optim.Adam(student.parameters(), lr=4e-3)
    for _ in range(30):
        optimizer.zero_grad()
        loss = (solve(student, problem) - truth).square().mean()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        end = float((solve(student, problem) - truth).square().mean())
    start = float((problem.start - truth).square().mean())
    assert end < 0.8 * start


@torch.no_grad()
@pytest.mark.parametrize("strength", [1.0, 5.0])
def test_clean_full_data_are_believed_whatever_the_weights(strength):
    """(N + 1e-4) x = A*y + 1e-4 z: the proposal z counts one in ten thousand."""
    problem, truth = sense_problem((24, 20), acceleration=1, sigma=0.0)
    image = solve(untrained(tiny_config(), strength).double(), problem)
    error = float((image - truth).abs().max() / truth.abs().max())
    assert error < 1e-3 * strength
    noisy = problem.noise + 0.5
    moved = untrained(tiny_config(), strength).double()(
        problem.start, problem.adjoint, problem.normal, noisy
    )
    assert float((moved - truth).abs().max() / truth.abs().max()) > 10 * error


@torch.no_grad()
def test_clean_measured_lines_are_kept():
    """Without noise the rt student's residual on the measured lines is nearly zero."""
    problem, _ = sense_problem((32, 24), acceleration=2, sigma=0.0)
    student = build_student(StudentConfig(widths=(4, 8), iterations=2)).double()
    residual = problem.normal(solve(student, problem)) - problem.adjoint
    assert float(residual.norm() / problem.adjoint.norm()) < 2e-3


@pytest.mark.parametrize("kind", ["gram", "operator"])
@BOTH
def test_forms_of_the_operator_give_one_image(architecture, kind):
    student = untrained(tiny_config(architecture)).double()
    expected = solve(student, sense_problem((15, 18), batch=2)[0])
    found = solve(student, sense_problem((15, 18), batch=2, normal=kind)[0])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("field", "value"), [("architecture", "unet"), ("widths", (8,)), ("iterations", 0), ("x", 1)]
)
def test_impossible_architectures_are_refused(field, value):
    with pytest.raises(ValidationError, match=field):
        build_student({field: value})


def test_a_mapping_builds_the_same_student():
    config = tiny_config("chpnet", "superres")
    student = build_student(config.model_dump(mode="json"))
    assert student.config == config
