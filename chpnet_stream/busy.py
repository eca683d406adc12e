"""Who works in this process: nobody keeps cores awake while somebody else needs them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()
_AT_WORK: set[object] = set()


@contextmanager
def working() -> Iterator[object]:
    """Held by a thread that needs its cores; gives what `give_up` takes."""
    who = object()
    with _LOCK:
        _AT_WORK.add(who)
    try:
        yield who
    finally:
        give_up(who)


def give_up(who: object) -> None:
    """Count somebody no more: he is done, or so late that nobody waits for him."""
    with _LOCK:
        _AT_WORK.discard(who)


def anybody_works() -> bool:
    """Whether somebody is at work."""
    return bool(_AT_WORK)
