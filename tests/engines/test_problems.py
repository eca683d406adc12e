"""Which problems are alike, and the memory they are copied to: what of a GPU needs none."""

import threading
from dataclasses import replace

import pytest
import torch

from chpnet_stream.deadline import StoppableNormal
from chpnet_stream.engines.problems import fill, mapped, owner, plain_normal, signature
from chpnet_stream.network.normal import SuperresNormal
from chpnet_stream.network.weights import find_model, load_student
from tests.network.problems import problem_of, sense_problem, solve


def made(**options):
    return sense_problem((16, 24), dtype=torch.float32, **options)[0]


@pytest.mark.parametrize("normal", ["column", "gram", "operator"])
def test_alike_are_those_of_one_matrix_and_kind(normal):
    one, two = (made(normal=normal, acceleration=r) for r in (2, 3))
    assert signature(one) is not None
    assert signature(one) == signature(two)
    assert signature(one) != signature(sense_problem((16, 32), dtype=torch.float32)[0])
    assert signature(one) != signature(made(normal=normal, batch=2))


def test_numbers_count():
    problem, _ = problem_of("superres", (16, 24), dtype=torch.float32)
    other = replace(problem, normal=SuperresNormal(4))
    assert signature(problem) != signature(other)
    assert signature(problem) == signature(replace(problem, normal=SuperresNormal(2)))


def test_work_that_may_differ_is_never_alike():
    class Counted:
        def __init__(self) -> None:
            self.calls: list[int] = []

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return x

    assert signature(replace(made(), normal=Counted())) is None


def test_a_watch_is_looked_through():
    problem = made()
    watched = replace(problem, normal=StoppableNormal(problem.normal, threading.Event()))
    assert plain_normal(watched.normal) is problem.normal
    assert signature(watched) == signature(problem)


def places(problem):
    """Where the tensors of a problem's normal operator are in memory."""
    parts = vars(owner(problem.normal)).items()
    return {name: part.data_ptr() for name, part in parts if isinstance(part, torch.Tensor)}


@pytest.mark.parametrize("normal", ["column", "gram", "operator"])
def test_static_memory_does_what_the_problem_does(tiny_model, normal):
    student = load_student(find_model(tiny_model()))
    with torch.inference_mode():
        one, two = (made(normal=normal, acceleration=r, sigma=0.05) for r in (2, 3))
        static = mapped(one, torch.clone)
        addresses = places(static)
        assert torch.equal(solve(student, static), solve(student, one))
        fill(static, two)
        assert torch.equal(solve(student, static), solve(student, two))
        assert not torch.equal(solve(student, one), solve(student, two))
        assert addresses == places(static)
