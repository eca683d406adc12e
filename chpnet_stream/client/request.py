"""What is asked of a server: a configuration by name, as a file, or single properties."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import quoteattr

from chpnet_stream.mrd.wire.messages import Config, Filename, Text


@dataclass(frozen=True)
class Request:
    """What is asked of a server.

    Attributes:
        name: Name of a configuration that the server has.
        config: A configuration itself: XML, JSON, a chain.
        properties: Properties. Without name and config they go as XML, which gadgets understand
            too; else behind the header as JSON parameters, which MRD servers understand.
    """

    name: str = ""
    config: bytes = b""
    properties: Mapping[str, str] = field(default_factory=dict)

    def before_header(self) -> Any:
        """The message before the header."""
        if self.config:
            return Config(self.config)
        if self.name:
            return Filename(self.name)
        lines = "".join(
            f"<property name={quoteattr(name)} value={quoteattr(value)}/>"
            for name, value in self.properties.items()
        )
        return Config(f"<configuration>{lines}</configuration>".encode())

    def behind_header(self, more: str = "") -> list[Any]:
        """The messages between header and data.

        Args:
            more: JSON parameters of the file, which hold where nothing is asked for.
        """
        if self.properties and (self.name or self.config):
            return [Text(json.dumps({"parameters": dict(self.properties)}).encode())]
        if more and not (self.properties or self.name or self.config):
            return [Text(more.encode())]
        return []
