"""Recon data and buckets in, one image a slice out.

What Gadgetron has gathered is taken apart into acquisitions again, by the headers that came with
it, and fed to the same session as raw acquisitions: same places in k-space, same counters, same
calibration, same image.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import ismrmrd
import numpy as np

from chpnet_stream.errors import EmptyScanError, InconsistentScanError
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.wire.bucket import Bucket
from chpnet_stream.mrd.wire.recon_data import ReconBuffer, ReconData
from chpnet_stream.session import Session, SessionImage
from chpnet_stream.streaming.watch import ScanWatch

LAST = flags.LAST_IN_SLICE | flags.LAST_IN_REPETITION | flags.LAST_IN_MEASUREMENT
AXES = 7


class BufferHandler:
    """Feeds recon data and buckets to a session; everything else goes on unchanged, in order.

    Every message is taken as whole: its slices go out at its end, also without last-in flags.

    Args:
        session: The scan.
        watch: Follows the images on their way out.
    """

    def __init__(self, session: Session, watch: ScanWatch | None = None) -> None:
        self.session = session
        self.watch = watch or ScanWatch()

    def take(self, item: Any, received_at: float) -> Iterator[Any]:
        """See `pump.Handler.take`."""
        if isinstance(item, Bucket):
            yield from item.waveforms
            lines = in_order(item.data, item.reference)
        elif isinstance(item, ReconData):
            lines = [line for bit in item for line in _lines_of_bit(bit.data, bit.reference)]
        else:
            yield item
            return
        for line in lines:
            for image in self.session.images_of(line, received_at):
                yield from self._outgoing(image)
        for image in self.session.end_block():
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
            raise (self.watch.others("buffers") or error) from None

    def close(self) -> None:
        """See `pump.Handler.close`."""
        self.session.close()

    def _outgoing(self, image: SessionImage) -> Iterator[Any]:
        return self.watch.images(self.session.messages(image), image.data.received_at)


def _lines_of_bit(data: ReconBuffer, reference: ReconBuffer | None) -> list[Any]:
    return in_order(lines_of(data), [] if reference is None else lines_of(reference))


def in_order(data: Iterable[Any], reference: Iterable[Any]) -> list[Any]:
    """Acquisitions in the order that they were measured in, each once.

    Calibration lines that are image data too (flag 21) come in both lists, and are taken from
    `data`. Lines with a last-in flag come last: behind them nothing may be missing.
    """
    only_calibration = [a for a in reference if flags.is_calibration_only(int(a.flags))]
    lines = [*only_calibration, *data]
    return sorted(lines, key=lambda a: (bool(int(a.flags) & LAST), int(a.scan_counter)))


def lines_of(buffer: ReconBuffer) -> Iterator[Any]:
    """The lines of a buffer that were measured, as `ismrmrd.Acquisition` objects.

    Raises:
        InconsistentScanError: Data and headers of the buffer don't fit together.
    """
    if buffer.data.size == 0:
        return
    shape = buffer.data.shape
    if len(shape) != AXES or buffer.headers.shape != (shape[1], shape[2], *shape[4:]):
        raise InconsistentScanError(
            f"a buffer has data {shape} and headers {buffer.headers.shape}, expected data "
            "[E0, E1, E2, CHA, N, S, LOC] and headers [E1, E2, N, S, LOC]; check the chain"
        )
    for e1, e2, *rest in np.ndindex(*buffer.headers.shape):
        head = buffer.headers[(e1, e2, *rest)]
        if head.number_of_samples:
            samples = buffer.data[(slice(None), e1, e2, slice(None), *rest)]
            yield _line(head, samples, int(buffer.sampling.limits[0].center))


def _line(head: Any, samples: np.ndarray, centre: int) -> Any:
    """One line, `E0 coils`, with a header that tells where its samples are now."""
    head = copy.copy(head)
    size, coils = samples.shape
    if head.number_of_samples != size or head.center_sample != size // 2:
        # Gadgetron has put what was not discarded where the centres meet.
        kept = head.number_of_samples - head.discard_pre - head.discard_post
        head.discard_pre = min(max(centre - head.center_sample, 0), max(size - kept, 0))
        head.discard_post = max(size - head.discard_pre - kept, 0)
        head.center_sample = centre
    head.number_of_samples = size
    head.active_channels = coils
    head.trajectory_dimensions = 0
    # Whoever made the buffer has turned reversed readouts round, or has left them alone as we must.
    return ismrmrd.Acquisition(head, np.ascontiguousarray(samples.T))
