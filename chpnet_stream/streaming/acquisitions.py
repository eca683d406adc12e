"""Acquisitions in, one image a slice out, as each slice completes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ismrmrd

from chpnet_stream.session import Session


class AcquisitionHandler:
    """Feeds acquisitions to a session; everything else goes on unchanged, in order.

    Args:
        session: The scan.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    def take(self, item: Any, received_at: float) -> Iterator[Any]:
        """See `pump.Handler.take`."""
        if not isinstance(item, ismrmrd.Acquisition):
            yield item
            return
        for image in self.session.feed(item, received_at):
            yield from self.session.messages(image)

    def finish(self) -> Iterator[Any]:
        """See `pump.Handler.finish`."""
        for image in self.session.finish():
            yield from self.session.messages(image)
