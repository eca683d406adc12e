"""An engine that is loaded when it is needed first."""

from __future__ import annotations

import threading
from collections.abc import Callable

from chpnet_stream.engines.engine import Engine
from chpnet_stream.engines.failures import FAILURES, told
from chpnet_stream.errors import EngineError


class LoadedLater:
    """Loads an engine for the first who needs it; the others wait meanwhile.

    Where that fails it is not tried for every slice, but at the first, second, fourth, eighth...
    call: what is wrong may pass, a GPU that is full for instance.

    Args:
        name: Of the engine, for messages.
        make: Loads it.
    """

    def __init__(self, name: str, make: Callable[[], Engine]) -> None:
        self.name = name
        self._make = make
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._calls = 0
        self._next = 1
        self._failure = ""

    def get(self) -> Engine:
        """The engine.

        Raises:
            EngineError: If it can't be loaded.
        """
        with self._lock:
            if self._engine is not None:
                return self._engine
            self._calls += 1
            if self._calls < self._next:
                raise EngineError(self._failure)
            try:
                self._engine = self._make()
            except FAILURES as error:
                self._next = 2 * self._calls
                self._failure = told(self.name, error)
                raise EngineError(self._failure) from error
            return self._engine
