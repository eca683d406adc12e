"""The name of an engine whose images are not all made by the same: that of each thread's last."""

from __future__ import annotations

import threading


class RunName:
    """What made the last image of the thread that asks.

    Scans of several threads share an engine, and each writes beside its image what made that.

    Attributes:
        usual: What makes the images of threads that have run nothing yet.
    """

    def __init__(self, usual: str) -> None:
        self.usual = usual
        self._own = threading.local()

    def set(self, name: str) -> None:
        """Say what makes this thread's image."""
        self._own.name = name

    def get(self) -> str:
        """What made this thread's last image."""
        found: str = getattr(self._own, "name", self.usual)
        return found
