"""Loaded networks, shared by the scans of a process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chpnet_stream.engines.engine import Engine

MOST_ENGINES = 4


class EnginePool:
    """Loads every model once, and keeps the ones used last.

    Args:
        most: Engines kept.
    """

    def __init__(self, most: int = MOST_ENGINES) -> None:
        self.most = most
        self._engines: OrderedDict[tuple[str, str, str], Engine] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, model: str, engine: str, precision: str = "auto") -> Engine:
        """The engine of a model, loaded by the first who asks; the others wait meanwhile.

        Args:
            model: Name of an installed model, or the path of a card.
            engine: Name of an engine, or "auto".
            precision: Of its arithmetic, or "auto".

        Raises:
            ModelError, EngineError: If it can't be loaded.
        """
        key = (model, engine, precision)
        with self._lock:
            found = self._engines.get(key)
            if found is None:
                from chpnet_stream.engines.choice import make_engine
                from chpnet_stream.network.weights import find_model

                found = make_engine(engine, find_model(model), precision=precision)
                self._engines[key] = found
                while len(self._engines) > self.most:
                    self._engines.popitem(last=False)
            self._engines.move_to_end(key)
            return found
