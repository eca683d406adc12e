"""Loaded networks, shared by the scans of a process."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from chpnet_stream.passing_thread import PassingThread

if TYPE_CHECKING:
    from chpnet_stream.engines.engine import Engine

T = TypeVar("T")

MOST_ENGINES = 4

RETRY_SECONDS = 600.0
"""An engine that could not be had is tried again so often at most."""

Key: TypeAlias = tuple[str, str, str]
"""Model, engine, precision."""

logger = logging.getLogger(__name__)


class EnginePool:
    """Loads every model once, and keeps the ones used last.

    Every load has a thread of its own, which ends with it: whoever wants another engine has it
    meanwhile. An engine that stands in for the one asked for is used until that can be loaded,
    which is tried beside the scans.

    Args:
        most: Engines kept.
        retry_seconds: Least time from one try to the next where an engine stands in.
    """

    def __init__(self, most: int = MOST_ENGINES, retry_seconds: float = RETRY_SECONDS) -> None:
        self.most = most
        self.retry_seconds = retry_seconds
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._lock = threading.Lock()  # of the table; nothing is loaded under it

    def get(self, model: str, engine: str, precision: str = "auto") -> Engine:
        """The engine of a model, loaded for the first who asks; others who want it wait with him.

        Args:
            model: Name of an installed model, or the path of a card.
            engine: Name of an engine, or "auto".
            precision: Of its arithmetic, or "auto".

        Raises:
            ModelError, EngineError: If it can't be loaded. All who wait are told; who asks next
                has it tried again.
        """
        from chpnet_stream.engines.stand_in import reason_of

        key = (model, engine, precision)
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                kept = _Kept()
                kept.loaded = _beside(lambda: self._load(key, kept))
                self._kept[key] = kept
            self._kept.move_to_end(key)
            loaded = kept.loaded
            is_new = not loaded.done()
        found = loaded.result()
        if reason_of(found) and not is_new:
            self._try_again(key, kept)
        return found

    def is_loading(self) -> bool:
        """Whether an engine is being loaded, for a scan or to be there for later ones."""
        with self._lock:
            return any(k.is_tried_again or not k.loaded.done() for k in self._kept.values())

    def _load(self, key: Key, kept: _Kept) -> Engine:
        """Load an engine that there is none of; at its end the pool knows what came of it."""
        try:
            made = _make(key)
        except BaseException:
            with self._lock:
                del self._kept[key]
            raise
        with self._lock:
            kept.next_try = time.monotonic() + self.retry_seconds
            others = [k for k, other in self._kept.items() if other is not kept and other.is_there]
            for old in others[: max(0, len(others) + 1 - self.most)]:
                del self._kept[old]
        return made

    def _try_again(self, key: Key, kept: _Kept) -> None:
        """Load what was asked for beside the scans, if it is time for it."""
        with self._lock:
            if kept.is_tried_again or time.monotonic() < kept.next_try:
                return
            kept.is_tried_again = True
        try:
            _beside(lambda: self._improve(key, kept))
        except RuntimeError as error:  # no thread for it
            self._tried(kept, None)
            logger.warning("%s", error)

    def _improve(self, key: Key, kept: _Kept) -> None:
        from chpnet_stream.engines.stand_in import reason_of

        made: Engine | None = None
        try:
            made = _make(key)
        except Exception as error:  # noqa: BLE001 - there is an engine, which goes on
            logger.warning("engine %s of %s can't be loaded yet: %s", key[1], key[0], error)
        if made is not None and reason_of(made):
            made = None
        self._tried(kept, made)
        if made is not None:
            logger.info("%s runs %s from the next scan on", made.name, key[0])

    def _tried(self, kept: _Kept, made: Engine | None) -> None:
        with self._lock:
            kept.is_tried_again = False
            kept.next_try = time.monotonic() + self.retry_seconds
            if made is not None:
                kept.loaded = Future()
                kept.loaded.set_result(made)


@dataclass
class _Kept:
    """An engine, loaded or on its way."""

    loaded: Future[Engine] = field(default_factory=Future)
    next_try: float = 0.0
    is_tried_again: bool = False

    @property
    def is_there(self) -> bool:
        return self.loaded.done() and not self.is_tried_again


def _make(key: Key) -> Engine:
    from chpnet_stream.engines.choice import make_engine
    from chpnet_stream.network.weights import find_model

    model, engine, precision = key
    return make_engine(engine, find_model(model), precision=precision)


def _beside(work: Callable[[], T]) -> Future[T]:
    """Begin a work on a thread of its own."""
    return PassingThread("engine").submit(work)
