"""An engine, and the one that takes over when it fails in the middle of a scan."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from torch import Tensor

from chpnet_stream.engines.engine import Engine, Problem, first_line
from chpnet_stream.errors import EngineError

logger = logging.getLogger(__name__)


class WithSpare:
    """Runs an engine; when it fails, another one takes over for good, by a warning and its name.

    The other one is loaded then. If it can't do the problem either, the problem is at fault and not
    the engine: the first error is raised, and the engine is asked again next time.

    Args:
        engine: What runs.
        make_spare: Loads what takes over, on the same device.
    """

    def __init__(self, engine: Engine, make_spare: Callable[[], Engine]) -> None:
        self.engine = engine
        self.name = engine.name
        self.card = engine.card
        self.device = engine.device
        self._make_spare = make_spare
        self._spare: Engine | None = None
        self._lock = threading.Lock()

    def run(self, problem: Problem) -> Tensor:
        """See `Engine.run`."""
        if self._spare is not None:
            return self._spare.run(problem)
        try:
            image = self.engine.run(problem)
            self.name = self.engine.name
            return image
        except EngineError as error:
            return self._take_over(problem, error)

    def _take_over(self, problem: Problem, error: EngineError) -> Tensor:
        """The image by the other engine, which stays if it has one."""
        with self._lock:
            try:
                spare = self._spare or self._make_spare()
                image = spare.run(problem)
            except (EngineError, RuntimeError) as other:  # PyTorch's: memory, a GPU that is gone
                raise EngineError(f"{error}; by another engine: {first_line(other)}") from error
            if self._spare is None:
                self._spare = spare
                self.name = f"{spare.name} (instead of {self.engine.name})"
                logger.warning("%s; %s is used from now on", error, self.name)
            return image
