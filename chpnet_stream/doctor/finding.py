"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["ok", "info", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """What was found, and what to do about it.

    Attributes:
        section: Where it belongs: "python", "machine", "engines" ...
        name: What was looked at.
        level: ok; info: not there, and not needed; warn: works, but look at it; fail: something
            that is needed doesn't work.
        found: In words.
        advice: What to do; empty where there is nothing to do.
        values: The same in numbers, for JSON.
    """

    section: str
    name: str
    level: Level
    found: str
    advice: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """As a record for JSON."""
        record: dict[str, Any] = {
            "section": self.section,
            "name": self.name,
            "level": self.level,
            "found": self.found,
            "advice": self.advice,
        }
        return record | ({"values": self.values} if self.values else {})
