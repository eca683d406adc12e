"""Problems whose normal operator is a plain one: compared and copied, tensor by tensor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor

from chpnet_stream.engines.engine import Problem


def plain_normal(normal: Any) -> Any:
    """A* A without what only watches over it (`deadline.StoppableNormal`)."""
    while hasattr(normal, "stop") and hasattr(normal, "normal"):
        normal = normal.normal
    return normal


def owner(normal: Any) -> Any:
    """What holds the tensors of a normal operator: itself, or the operator that it applies."""
    return getattr(normal, "operator", normal)


def signature(problem: Problem) -> tuple[Any, ...] | None:
    """What two problems must share to be run by the same recorded work.

    None where the operator has parts that are neither tensors nor numbers, so that its work can't
    be known to be the same when it comes again.
    """
    normal = plain_normal(problem.normal)
    parts = vars(owner(normal))
    tensors = {name: part for name, part in parts.items() if isinstance(part, Tensor)}
    others = {name: part for name, part in parts.items() if name not in tensors}
    if not all(isinstance(part, int | float | str | bool | None) for part in others.values()):
        return None
    kind = (type(normal), type(owner(normal)), *sorted(others.items(), key=lambda item: item[0]))
    own = (problem.start, problem.adjoint, problem.noise, *tensors.values())
    return (kind, tuple(tensors), *((tuple(t.shape), t.dtype) for t in own))


def mapped(problem: Problem, change: Callable[[Tensor], Tensor]) -> Problem:
    """A problem with every tensor changed: copied, moved, or of another precision."""
    normal = copy.copy(plain_normal(problem.normal))
    if hasattr(normal, "operator"):
        normal.operator = copy.copy(normal.operator)
    for name, part in vars(owner(normal)).items():
        if isinstance(part, Tensor):
            setattr(owner(normal), name, change(part))
    start, adjoint, noise = (change(t) for t in (problem.start, problem.adjoint, problem.noise))
    return Problem(start, adjoint, normal, noise)


def fill(target: Problem, source: Problem) -> None:
    """Copy the tensors of a problem into those of another one of the same signature."""
    for name in ("start", "adjoint", "noise"):
        getattr(target, name).copy_(getattr(source, name))
    into = vars(owner(target.normal))
    for name, part in vars(owner(plain_normal(source.normal))).items():
        if isinstance(part, Tensor):
            into[name].copy_(part)
