"""Messages to a stream."""

from __future__ import annotations

import struct
import threading
from typing import Any

import ismrmrd

from chpnet_stream.errors import PeerGoneError, ProtocolError
from chpnet_stream.mrd.wire import messages
from chpnet_stream.mrd.wire.bucket import Bucket, bucket_parts
from chpnet_stream.mrd.wire.byte_stream import ByteStream, Part
from chpnet_stream.mrd.wire.ids import MessageId
from chpnet_stream.mrd.wire.image import image_parts
from chpnet_stream.mrd.wire.image_array import ImageArray, image_array_parts
from chpnet_stream.mrd.wire.nd_array import NdArray, nd_array_parts
from chpnet_stream.mrd.wire.recon_data import ReconData, recon_data_parts
from chpnet_stream.mrd.wire.samples import acquisition_parts, waveform_parts

UINT16 = struct.Struct("<H")

WRITERS: tuple[tuple[type, MessageId, Any], ...] = (
    (ismrmrd.Acquisition, MessageId.ACQUISITION, acquisition_parts),
    (ismrmrd.Image, MessageId.IMAGE, image_parts),
    (ismrmrd.Waveform, MessageId.WAVEFORM, waveform_parts),
    (ReconData, MessageId.RECON_DATA, recon_data_parts),
    (ImageArray, MessageId.IMAGE_ARRAY, image_array_parts),
    (NdArray, MessageId.ND_ARRAY, nd_array_parts),
    (Bucket, MessageId.BUCKET, bucket_parts),
    (messages.Text, MessageId.TEXT, lambda m: messages.short_parts(m.raw)),
    (messages.ErrorText, MessageId.ERROR, messages.error_parts),
    (messages.Close, MessageId.CLOSE, lambda m: []),
    (messages.Config, MessageId.CONFIG, lambda m: messages.short_parts(m.raw)),
    (messages.Header, MessageId.HEADER, lambda m: messages.short_parts(m.raw)),
    (messages.Filename, MessageId.FILENAME, messages.filename_parts),
    (messages.Query, MessageId.QUERY, messages.query_parts),
    (messages.Response, MessageId.RESPONSE, messages.response_parts),
)


def message_parts(item: Any) -> list[Part]:
    """The bytes of a message, its id first.

    Raises:
        ProtocolError: There is no message for such an object.
    """
    for kind, number, parts in WRITERS:
        if isinstance(item, kind):
            return [UINT16.pack(number), *parts(item)]
    raise ProtocolError(
        f"found a {type(item).__name__} to send, expected an acquisition, image, waveform, recon "
        "data, image array, bucket or text"
    )


class MessageWriter:
    """Writes whole messages; several threads may share it.

    Args:
        stream: Where the bytes go.
    """

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self._broken: PeerGoneError | None = None
        self._lock = threading.Lock()

    def write(self, item: Any) -> None:
        """Send a message: whatever `MessageReader.read` returns, or any `ismrmrd.Image`.

        Raises:
            ProtocolError: There is no message for such an object.
            PeerGoneError: The peer takes no more.
        """
        parts = message_parts(item)
        with self._lock:
            if self._broken is not None:  # half a message is out: nothing can be said behind it
                raise self._broken
            try:
                self.stream.write(parts)
            except PeerGoneError as error:
                self._broken = error
                raise

    def fail(self, words: Any) -> None:
        """Say what went wrong, TEXT or ERROR, and CLOSE.

        Raises:
            PeerGoneError: The peer takes no more.
        """
        self.write(words)
        self.write(messages.Close())
