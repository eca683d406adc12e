"""Messages to an MRD v2 stream."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import ismrmrd

from chpnet_stream.errors import PeerGoneError, ProtocolError
from chpnet_stream.mrd.header import ScanHeader
from chpnet_stream.mrd.v2.header import header_to_v2
from chpnet_stream.mrd.v2.items import Mrd2Item, item_to_v2
from chpnet_stream.mrd.v2.package import require_mrd
from chpnet_stream.mrd.wire import messages
from chpnet_stream.mrd.wire.byte_stream import ByteStream

ITEMS = (ismrmrd.Image, ismrmrd.Waveform, ismrmrd.Acquisition, Mrd2Item)


class Mrd2Writer:
    """Writes the messages of v1 as an MRD v2 stream, each at once; several threads may share it.

    MRD v2 has no word for an error: the stream then lacks its end, and whoever reads it knows.

    Args:
        stream: Where the bytes go.
        original: Gives the header as it came, if it came in v2: it is written unchanged.

    Raises:
        ConfigurationError: mrd-python is not installed.
    """

    def __init__(
        self, stream: ByteStream, original: Callable[[], Any | None] = lambda: None
    ) -> None:
        require_mrd()
        self._sink = _Sink(stream)
        self._original = original
        self._writer: Any = None
        self._lock = threading.Lock()
        self._ended = False

    def write(self, item: Any) -> None:
        """Send a message.

        Raises:
            ProtocolError: MRD v2 has nothing for it.
            PeerGoneError: Nobody takes it.
            HeaderError: A header can't be told in v2.
        """
        with self._lock:
            if self._ended:
                raise PeerGoneError("the MRD v2 stream has ended, nothing more can be written")
            if isinstance(item, messages.Header):
                original = self._original()
                self._begin(
                    header_to_v2(ScanHeader.from_xml(item.raw)) if original is None else original
                )
            elif isinstance(item, messages.Close):
                self._begin(None)
                self._writer.write_data([])
                self._writer.close()
                self._ended = True
            elif isinstance(
                item, ismrmrd.Image | ismrmrd.Waveform | ismrmrd.Acquisition | Mrd2Item
            ):
                self._begin(None)
                self._writer.write_data([item_to_v2(item)])
            else:
                raise ProtocolError(
                    f"found a {type(item).__name__} to send, expected an image or a waveform: MRD "
                    "v2 has nothing else for it here"
                )
            self._writer._stream.flush()
            self._sink.send()

    def fail(self, words: Any) -> None:
        """End the stream without its end; the words go where there is a place for them."""
        with self._lock:
            self._ended = True

    def _begin(self, header: Any) -> None:
        """Write the beginning, once."""
        if self._writer is not None:
            return
        import mrd

        self._writer = mrd.BinaryMrdWriter(self._sink)
        self._writer.write_header(header)


class _Sink:
    """What the package takes for a file: gathers the pieces of a message.

    Args:
        stream: Where the bytes go.
    """

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self._pieces: list[bytes] = []

    def write(self, data: Any) -> None:
        """Take a piece."""
        self._pieces.append(bytes(data))

    def flush(self) -> None:
        """The package flushes between the pieces of a message; `send` comes behind the last."""

    def send(self) -> None:
        """Send what was gathered."""
        pieces, self._pieces = self._pieces, []
        self.stream.write(pieces)
