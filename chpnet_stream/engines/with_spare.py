"""An engine, and the one that takes over when it fails in the middle of a scan."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from torch import Tensor

from chpnet_stream.engines.engine import Engine, Problem
from chpnet_stream.engines.failures import FAILURES, FOREIGN, told
from chpnet_stream.engines.loaded_later import LoadedLater
from chpnet_stream.engines.run_name import RunName
from chpnet_stream.engines.stand_in import instead_name
from chpnet_stream.errors import EngineError

logger = logging.getLogger(__name__)


class _NotFiniteError(EngineError):
    """There is an image, of numbers that none can be made of."""


class WithSpare:
    """Runs an engine; when it fails, another one takes over for good, by a warning and its name.

    Its first image, that of a dry run, is looked at: one that is not finite is a failure, too (half
    precision that overflows on this GPU), unless the other engine's is not either.

    The other one is loaded then, and the memory of the first is let go when the other has made its
    first image. If it can't do the problem either, the problem may be at fault and not the engine:
    the first error is raised, and the engine is asked again next time.

    Args:
        engine: What runs.
        make_spare: Loads what takes over, on the same device.
    """

    def __init__(self, engine: Engine, make_spare: Callable[[], Engine]) -> None:
        self.card = engine.card
        self.device = engine.device
        self.reason = ""
        """Why the other one runs; empty where it doesn't."""
        self._usual = engine.name
        self._engine: Engine | None = engine
        self._spare = LoadedLater("pytorch", make_spare)
        self._made_by = RunName(engine.name)
        self._looked = False
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """What made this thread's last image."""
        return self._made_by.get()

    def run(self, problem: Problem) -> Tensor:
        """See `Engine.run`."""
        engine = self._engine  # another thread may let it go meanwhile
        if engine is None:
            return self._run_spare(problem)
        try:
            image = engine.run(problem)
            if not self._looked:
                self._look(image)
        except (EngineError, *FOREIGN) as error:
            return self._take_over(problem, error)
        self._made_by.set(engine.name)
        return image

    def _look(self, image: Tensor) -> None:
        """At the first image; on a GPU this waits for it.

        Raises:
            _NotFiniteError: As said.
        """
        self._looked = True
        if not image.isfinite().all():
            raise _NotFiniteError(f"{self._usual}: found an image of NaN or infinite pixels")

    def _take_over(self, problem: Problem, error: Exception) -> Tensor:
        """The image by the other engine, which stays if it has one."""
        reason = told(self._usual, error)
        try:
            image = self._run_spare(problem)
        except EngineError as other:
            raise EngineError(f"{reason}; by another engine: {other}") from error
        if isinstance(error, _NotFiniteError) and not image.isfinite().all():
            return image  # the problem is at fault, or the network
        with self._lock:
            if self._engine is not None:
                self._engine = None
                self.reason = reason
                self._made_by.usual = self.name
                logger.warning("%s; %s is used from now on", reason, self.name)
        return image

    def _run_spare(self, problem: Problem) -> Tensor:
        spare = self._spare.get()
        try:
            image = spare.run(problem)
        except FAILURES as error:
            raise EngineError(told(spare.name, error)) from error
        self._made_by.set(instead_name(spare.name, self._usual))
        return image
