"""By what a run knows again what it was given: its data, its teacher."""

from __future__ import annotations

from dataclasses import dataclass

SHOWN = 12
"""Digits of a checksum that messages show."""


@dataclass(frozen=True)
class Identity:
    """A file's name, for people, and the checksum of what it holds.

    Attributes:
        name: Without folders that say nothing.
        checksum: SHA-256 in hexadecimal digits.
    """

    name: str
    checksum: str

    def __str__(self) -> str:
        return f"{self.name} (checksum {self.checksum[:SHOWN]})"
