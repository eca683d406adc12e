"""A network on a GPU: its own stream, and one launch for a matrix that comes again."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from chpnet_stream.engines.engine import Problem, first_line
from chpnet_stream.errors import EngineError
from chpnet_stream.network.normal import Normal

WARM_RUNS = 3

logger = logging.getLogger(__name__)


def plain_normal(normal: Any) -> Any:
    """A* A without what only watches over it (`deadline.StoppableNormal`)."""
    while hasattr(normal, "stop") and hasattr(normal, "normal"):
        normal = normal.normal
    return normal


def normal_parts(normal: Any) -> tuple[dict[str, Tensor], tuple[Any, ...]] | None:
    """The tensors of a normal operator by name, and what else determines what it does.

    None where it has parts that are neither tensors nor numbers, so that its work can't be known
    to be the same when it comes again.
    """
    owner = getattr(normal, "operator", normal)
    tensors = {name: part for name, part in vars(owner).items() if isinstance(part, Tensor)}
    others = {name: part for name, part in vars(owner).items() if name not in tensors}
    if not all(isinstance(part, int | float | str | bool | None) for part in others.values()):
        return None
    kind = (type(normal), type(owner), *sorted(others.items(), key=lambda item: item[0]))
    return tensors, kind


def signature(problem: Problem) -> tuple[Any, ...] | None:
    """What two problems must share to be run by the same recorded work; None: never."""
    parts = normal_parts(plain_normal(problem.normal))
    if parts is None:
        return None
    tensors, kind = parts
    own = (problem.start, problem.adjoint, problem.noise, *tensors.values())
    return (kind, tuple(tensors), *((tuple(t.shape), t.dtype) for t in own))


class StaticProblem:
    """A problem with memory of its own, into which others of its signature are copied.

    Args:
        problem: The first one.
    """

    def __init__(self, problem: Problem) -> None:
        normal = copy.copy(plain_normal(problem.normal))
        if hasattr(normal, "operator"):
            normal.operator = copy.copy(normal.operator)
        self._owner = getattr(normal, "operator", normal)
        for name, part in vars(self._owner).items():
            if isinstance(part, Tensor):
                setattr(self._owner, name, part.clone())
        self.problem = Problem(
            problem.start.clone(), problem.adjoint.clone(), normal, problem.noise.clone()
        )

    def fill(self, problem: Problem) -> None:
        """Copy another problem of the same signature into it."""
        for name in ("start", "adjoint", "noise"):
            getattr(self.problem, name).copy_(getattr(problem, name))
        normal = plain_normal(problem.normal)
        for name, part in vars(getattr(normal, "operator", normal)).items():
            if isinstance(part, Tensor):
                getattr(self._owner, name).copy_(part)


class CudaRunner:
    """Runs a network on a GPU.

    All work goes to a stream of its own; nothing waits for the GPU here, that is left to whoever
    reads the image. The whole network, its iterations and data consistency, is recorded as one CUDA
    graph when a matrix comes twice in a row, so that the CPU launches it once instead of hundreds
    of kernels. It is forgotten when another matrix comes, since engines prepare for one at a time.
    Runs of several threads take turns, since they share memory.

    Args:
        network: Of a student's interface.
        device: The GPU.
        record: Whether to record CUDA graphs.
    """

    def __init__(
        self, network: Callable[..., Tensor], device: torch.device, *, record: bool = True
    ) -> None:
        self.network = network
        self.device = device
        self.record = record
        self.stream = torch.cuda.Stream(device)
        self._recorded: _Recorded | None = None
        self._last: tuple[Any, ...] | None = None
        self._lock = threading.Lock()

    def __call__(self, start: Tensor, adjoint: Tensor, normal: Normal, noise: Tensor) -> Tensor:
        """See `network.chpnet.Student.forward`.

        Returns:
            The image, ready for work that is given to the current stream after it.
        """
        problem = Problem(start, adjoint, normal, noise)
        with self._lock:
            before = torch.cuda.current_stream(self.device)
            self.stream.wait_stream(before)
            with torch.cuda.stream(self.stream):
                image = self._run(problem)
            before.wait_stream(self.stream)
            image.record_stream(before)
            return image

    def _run(self, problem: Problem) -> Tensor:
        key = signature(problem) if self.record else None
        again = key is not None and key == self._last
        self._last = key
        if not again:
            self._recorded = None
            return self._eager(problem)
        if self._recorded is None:
            try:
                self._recorded = _Recorded(self._eager, problem)
            except (RuntimeError, EngineError) as error:
                self.record = False
                logger.warning(
                    "no CUDA graphs on %s: recording failed (%s); kernels are launched one by one",
                    self.device,
                    first_line(error),
                )
                return self._eager(problem)
        return self._recorded.run(problem)

    def _eager(self, problem: Problem) -> Tensor:
        return self.network(problem.start, problem.adjoint, problem.normal, problem.noise)


class _Recorded:
    """A CUDA graph of a network for one signature."""

    def __init__(self, run: Callable[[Problem], Tensor], problem: Problem) -> None:
        self.static = StaticProblem(problem)
        for _ in range(WARM_RUNS):  # plans of FFTs, workspaces, algorithms
            run(self.static.problem)
        torch.cuda.current_stream().synchronize()
        self.graph = torch.cuda.CUDAGraph()
        # "thread_local": other threads of the process may go on using the GPU meanwhile
        with torch.cuda.graph(
            self.graph,
            stream=torch.cuda.current_stream(),
            capture_error_mode="thread_local",
        ):
            self.image = run(self.static.problem)

    def run(self, problem: Problem) -> Tensor:
        self.static.fill(problem)
        self.graph.replay()
        return self.image.clone()
