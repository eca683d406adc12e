"""Inputs of a student, made from a phantom, in any precision."""

import torch

from chpnet_stream.engines.engine import Problem
from chpnet_stream.network.normal import (
    ColumnNormal,
    GramNormal,
    OperatorNormal,
    SuperresNormal,
    to_channels,
)
from chpnet_stream.physics.classical import cg_sense
from chpnet_stream.physics.operators import ColumnSense, SenseOperator, sense_gram
from tests.physics.cases import make_case, phantom


def sense_problem(
    shape: tuple[int, int] = (32, 24),
    batch: int = 1,
    *,
    acceleration: int = 3,
    sigma: float = 0.02,
    normal: str = "column",
    dtype: torch.dtype = torch.float64,
) -> tuple[Problem, torch.Tensor]:
    """A `kspace` problem and its truth `batch 2 y x`; every entry has its own offset of lines."""
    cases = [
        make_case(shape, coils=4, acceleration=acceleration, calibration=8, sigma=sigma)
        for _ in range(batch)
    ]
    masks = [case.mask.roll(i) for i, case in enumerate(cases)]
    maps, mask = torch.stack([c.maps for c in cases]), torch.stack(masks)
    kspace = torch.stack([c.kspace for c in cases])
    operator = SenseOperator(maps, mask[:, None, :, None])
    adjoint = operator.adjoint(kspace)
    start = cg_sense(operator.normal, adjoint, regularization=1e-2, iterations=6)
    maps = maps.to(torch.complex64 if dtype == torch.float32 else torch.complex128)
    gram = sense_gram(maps, mask.to(dtype))
    normals = {
        "column": ColumnNormal(ColumnSense(maps, mask.to(dtype))),
        "gram": GramNormal(gram.real.contiguous(), gram.imag.contiguous()),
        "operator": OperatorNormal(SenseOperator(maps, mask[:, None, :, None].to(dtype))),
    }
    truth = to_channels(torch.stack([c.image for c in cases]))
    noise = torch.full((batch, 1, 1, 1), sigma, dtype=dtype)
    channels = [to_channels(image).to(dtype) for image in (start, adjoint)]
    return Problem(*channels, normals[normal], noise), truth.to(dtype)


def downsampling_problem(
    shape: tuple[int, int] = (32, 24),
    batch: int = 1,
    *,
    factor: int = 2,
    sigma: float = 0.0,
    dtype: torch.dtype = torch.float64,
) -> tuple[Problem, torch.Tensor]:
    """A `superres` problem of magnitude images and its truth `batch 1 y x`."""
    truth = torch.stack([phantom(shape).roll(3 * i, 1) for i in range(batch)])[:, None].to(dtype)
    normal = SuperresNormal(factor)
    adjoint = normal(truth)
    noise = torch.full((batch, 1, 1, 1), sigma, dtype=dtype)
    return Problem(adjoint.clone(), adjoint, normal, noise), truth


def problem_of(task: str, shape: tuple[int, int], batch: int = 1, **options):
    """The problem of a task; `shape` must be even for `superres`."""
    make = sense_problem if task == "kspace" else downsampling_problem
    return make(shape, batch, **options)


def solve(student: torch.nn.Module, problem: Problem) -> torch.Tensor:
    """The student's image."""
    return student(problem.start, problem.adjoint, problem.normal, problem.noise)
