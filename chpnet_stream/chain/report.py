"""What a check of a chain has found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """A fault, or something that may be one.

    Attributes:
        level: An error makes a scan fail; a warning may not.
        line: Where, in the file.
        text: What was found, what was expected, what to do.
    """

    level: Level
    line: int
    text: str


@dataclass(frozen=True)
class Step:
    """A node of a chain: where it stands, what it is, what goes on behind it."""

    line: int
    node: str
    gives: str


@dataclass
class Report:
    """A checked chain."""

    path: Path
    steps: list[Step] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def error(self, line: int, text: str) -> None:
        """Note something that makes the scan fail."""
        self._note(Finding("error", line, text))

    def warning(self, line: int, text: str) -> None:
        """Note something that may be wrong."""
        self._note(Finding("warning", line, text))

    @property
    def errors(self) -> list[Finding]:
        """The findings that make a scan fail."""
        return [f for f in self.findings if f.level == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """The others."""
        return [f for f in self.findings if f.level == "warning"]

    def _note(self, finding: Finding) -> None:
        if finding not in self.findings:
            self.findings.append(finding)
