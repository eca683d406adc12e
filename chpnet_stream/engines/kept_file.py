"""What a GPU's libraries want kept between starts: checked before they are handed it again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chpnet_stream.engines.engine import first_line
from chpnet_stream.engines.failures import FOREIGN
from chpnet_stream.engines.trust import untrusted, write_trusted
from chpnet_stream.errors import OutputError

MARK = b"chpnet-stream 1 "

logger = logging.getLogger(__name__)


class KeptFile:
    """A file that begins with the checksum of the rest.

    It may be code for a GPU. It is handed out only if its bytes have the checksum and nobody else
    can write to it or its folder; else it begins empty, by a warning, and is written anew.

    Args:
        path: The file; its folder is made when it is written.
        what: What is in it, for messages.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self.what = what

    def read(self) -> bytes:
        """The content; empty where there is none that can be used."""
        try:
            if not self.path.exists():
                return b""
            fault = untrusted(self.path.parent) or untrusted(self.path)
            content = b"" if fault else self.path.read_bytes()
        except OSError as error:
            fault, content = f"it can't be read ({error.strerror})", b""
        if fault is None:
            head, _, rest = content.partition(b"\n")
            if head == MARK + hashlib.sha256(rest).hexdigest().encode():
                return rest
            fault = "its checksum is missing or differs"
        self.refuse(fault)
        return b""

    def refuse(self, fault: str) -> None:
        """Tell that what was found is not used."""
        logger.warning("%s: found %s that can't be used: %s", self.path, self.what, fault)

    def take(self, serialize: Callable[[], Any]) -> bool:
        """Keep what a library hands out; where it can't, that is told of by a warning, too.

        Args:
            serialize: Gives its bytes.

        Returns:
            Whether it was written.
        """
        try:
            content = bytes(serialize())
        except FOREIGN as error:
            logger.warning("%s: %s can't be kept: %s", self.path, self.what, first_line(error))
            return False
        return self.write(content)

    def write(self, content: bytes) -> bool:
        """Keep it; a failure is told of by a warning.

        Returns:
            Whether it was written.
        """
        head = MARK + hashlib.sha256(content).hexdigest().encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_trusted(self.path, head + b"\n" + content)
        except (OSError, OutputError) as error:
            logger.warning("%s: %s can't be kept: %s", self.path, self.what, error)
            return False
        return True
