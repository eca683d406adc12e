"""A network on a GPU: its own stream, and one launch for a matrix that comes again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from chpnet_stream.engines.engine import Problem, first_line
from chpnet_stream.engines.problems import fill, mapped, signature
from chpnet_stream.errors import EngineError
from chpnet_stream.network.normal import Normal

WARM_RUNS = 3

RETRY = 16
"""Where recording fails it is tried again after so many runs, then so many times as many."""

_RECORDING = threading.Lock()
"""Held while a graph is recorded. One engine's recording begins by waiting for the whole GPU, which
CUDA refuses while another one records, and then both fail."""

logger = logging.getLogger(__name__)


class CudaRunner:
    """Runs a network on a GPU.

    All work goes to a stream of its own; nothing waits for the GPU here, that is left to whoever
    reads the image. The whole network, its iterations and data consistency, is recorded as one CUDA
    graph when a matrix comes twice in a row, so that the CPU launches it once instead of hundreds
    of kernels. It is forgotten when another matrix comes, since engines prepare for one at a time.
    Where it can't be recorded, which is told of by a warning, kernels are launched one by one; what
    was in the way may pass (another engine that is being loaded, memory), and it is tried again.
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
        # For the whole process: float32 convolutions mean float32 here, as on a CPU.
        torch.backends.cudnn.allow_tf32 = False
        self._recorded: _Recorded | None = None
        self._last: tuple[Any, ...] | None = None
        self._chances = 0
        self._next = 1
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
        recorded = self._recorded = self._recorded or self._try_to_record(problem)
        return self._eager(problem) if recorded is None else recorded.run(problem)

    def _try_to_record(self, problem: Problem) -> _Recorded | None:
        """The graph for a problem and those like it; None where it can't be had now."""
        self._chances += 1
        if self._chances < self._next:
            return None
        try:
            with _RECORDING:
                return _Recorded(self._eager, problem)
        except (RuntimeError, EngineError) as error:
            self._next = RETRY * self._chances
            logger.warning(
                "no CUDA graph on %s: recording failed (%s); kernels are launched one by one",
                self.device,
                first_line(error),
            )
            return None

    def _eager(self, problem: Problem) -> Tensor:
        return self.network(problem.start, problem.adjoint, problem.normal, problem.noise)


class _Recorded:
    """A CUDA graph of a network for one signature."""

    def __init__(self, run: Callable[[Problem], Tensor], problem: Problem) -> None:
        self.static = mapped(problem, lambda tensor: tensor.clone())
        for _ in range(WARM_RUNS):  # plans of FFTs, workspaces, algorithms
            run(self.static)
        torch.cuda.current_stream().synchronize()
        self.graph = torch.cuda.CUDAGraph()
        # "thread_local": other threads of the process may go on using the GPU meanwhile
        with torch.cuda.graph(
            self.graph,
            stream=torch.cuda.current_stream(),
            capture_error_mode="thread_local",
        ):
            self.image = run(self.static)

    def run(self, problem: Problem) -> Tensor:
        fill(self.static, problem)
        self.graph.replay()
        return self.image.clone()
