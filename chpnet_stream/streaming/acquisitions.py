"""Acquisitions in, one image a slice out, as each slice completes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ismrmrd

from chpnet_stream.errors import EmptyScanError
from chpnet_stream.session import Session, SessionImage
from chpnet_stream.streaming.watch import ScanWatch


class AcquisitionHandler:
    """Feeds acquisitions to a session; everything else goes on unchanged, in order.

    Args:
        session: The scan.
        watch: Follows the images on their way out.
    """

    def __init__(self, session: Session, watch: ScanWatch | None = None) -> None:
        self.session = session
        self.watch = watch or ScanWatch()

    def take(self, item: Any, received_at: float) -> Iterator[Any]:
        """See `pump.Handler.take`."""
        if not isinstance(item, ismrmrd.Acquisition):
            yield item
            return
        for image in self.session.images_of(item, received_at):
            yield from self._outgoing(image)

    def finish(self) -> Iterator[Any]:
        """See `pump.Handler.finish`.

        Raises:
            EmptyScanError: There was no image data.
        """
        try:
            for image in self.session.finish():
                yield from self._outgoing(image)
        except EmptyScanError as error:
            raise (self.watch.others("acquisitions") or error) from None

    def close(self) -> None:
        """See `pump.Handler.close`."""
        self.session.close()

    def _outgoing(self, image: SessionImage) -> Iterator[Any]:
        return self.watch.images(self.session.messages(image), image.data.received_at)
