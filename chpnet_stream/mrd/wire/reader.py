"""Messages from a stream."""

from __future__ import annotations

import struct
from typing import Any

from chpnet_stream.errors import ProtocolError
from chpnet_stream.mrd.wire import (
    bucket,
    image,
    image_array,
    messages,
    nd_array,
    recon_data,
    samples,
)
from chpnet_stream.mrd.wire.byte_reader import ByteReader
from chpnet_stream.mrd.wire.byte_stream import ByteStream
from chpnet_stream.mrd.wire.ids import MessageId
from chpnet_stream.mrd.wire.limits import WireLimits

UINT16 = struct.Struct("<H")

READERS: dict[MessageId, Any] = {
    MessageId.FILENAME: messages.read_filename,
    MessageId.CONFIG: lambda reader: messages.Config(messages.read_short(reader)),
    MessageId.HEADER: lambda reader: messages.Header(messages.read_short(reader)),
    MessageId.CLOSE: lambda reader: messages.Close(),
    MessageId.TEXT: lambda reader: messages.Text(messages.read_short(reader)),
    MessageId.QUERY: messages.read_query,
    MessageId.RESPONSE: messages.read_response,
    MessageId.ERROR: messages.read_error,
    MessageId.ACQUISITION: samples.read_acquisition,
    MessageId.IMAGE: image.read_image,
    MessageId.RECON_DATA: recon_data.read_recon_data,
    MessageId.IMAGE_ARRAY: image_array.read_image_array,
    MessageId.WAVEFORM: samples.read_waveform,
    MessageId.ND_ARRAY: nd_array.read_nd_array,
    MessageId.BUCKET: bucket.read_bucket,
}
HEAD_BYTES = 1024
"""What messages have beside their text: names, lengths, numbers."""


class MessageReader:
    """Reads whole messages, whatever pieces they come in.

    Args:
        stream: Where the bytes come from.
        limits: Largest sizes.
    """

    def __init__(self, stream: ByteStream, limits: WireLimits | None = None) -> None:
        self.bytes = ByteReader(stream, limits)
        self._budgets = _budgets(self.bytes.limits)

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self.bytes.position

    def read(self) -> Any | None:
        """The next message; None where the stream ends between two messages.

        Returns:
            A class of `messages`, an `ismrmrd.Acquisition` or `Waveform`, a `WireImage`,
            `ReconData`, `ImageArray`, `NdArray` or `Bucket`.

        Raises:
            ProtocolError: An unknown id, or a size that is too large.
            PeerGoneError: The stream ends within a message.
        """
        if self.bytes.at_end():
            return None
        start = self.bytes.position
        self.bytes.begin("a message id", UINT16.size)
        (number,) = self.bytes.unpack(UINT16)
        if number not in READERS:
            known = ", ".join(str(int(known)) for known in READERS)
            raise ProtocolError(
                f"found the message id {number} at byte {start}, expected one of {known}; the "
                "stream is damaged, or the sender is newer than this program"
            )
        message = MessageId(number)
        self.bytes.begin(f"{message.name} ({number})", self._budgets[message])
        return READERS[message](self.bytes)


def _budgets(limits: WireLimits) -> dict[MessageId, int]:
    """Bytes that a message of each kind may have."""
    collection = (MessageId.RECON_DATA, MessageId.IMAGE_ARRAY, MessageId.BUCKET)
    item = (MessageId.ACQUISITION, MessageId.IMAGE, MessageId.WAVEFORM, MessageId.ND_ARRAY)
    return {
        **dict.fromkeys(MessageId, limits.text_bytes + HEAD_BYTES),
        MessageId.CONFIG: limits.config_bytes + HEAD_BYTES,
        MessageId.HEADER: limits.header_bytes + HEAD_BYTES,
        **dict.fromkeys(item, limits.item_bytes),
        **dict.fromkeys(collection, limits.collection_bytes),
    }
