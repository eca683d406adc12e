"""Images with their meta, as the ismrmrd package's own objects."""

from __future__ import annotations

import ctypes
import struct
from typing import Any
from xml.sax.saxutils import escape

import ismrmrd
import numpy as np
from ismrmrd.image import ImageHeader

from chpnet_stream.errors import ProtocolError
from chpnet_stream.mrd.wire.arrays import samples_part
from chpnet_stream.mrd.wire.byte_reader import ByteReader
from chpnet_stream.mrd.wire.byte_stream import Part
from chpnet_stream.size_limits import VARIABLE

IMAGE_HEADER_BYTES = ctypes.sizeof(ImageHeader)
UINT64 = struct.Struct("<Q")

PIXELS = {1: "<u2", 2: "<i2", 3: "<u4", 4: "<i4", 5: "<f4", 6: "<f8", 7: "<c8", 8: "<c16"}
"""Pixels on the wire by data_type. (The ismrmrd package holds those of 4 as int64.)"""


class WireImage(ismrmrd.Image):
    """An image as it came; unchanged meta are written as the same bytes.

    The meta are parsed when they are asked for.

    Args:
        head: Image header.
        attributes: The meta as they came, XML.
    """

    def __init__(self, head: Any, attributes: bytes) -> None:
        super().__init__(head=head)
        self._attributes: bytes | None = attributes
        self._parsed = False

    @property
    def meta(self) -> Any:
        """The meta, `ismrmrd.Meta`.

        Raises:
            ProtocolError: They are no XML of this kind.
        """
        if self._attributes is not None and not self._parsed:
            ismrmrd.Image.meta.fset(self, parse_meta(self._attributes))
            self._parsed = True
        return ismrmrd.Image.meta.fget(self)

    @meta.setter
    def meta(self, value: Any) -> None:
        self._attributes = None
        ismrmrd.Image.meta.fset(self, value)

    @property
    def unchanged(self) -> bytes | None:
        """The meta as they came; None if they have been changed since."""
        raw = self._attributes
        if raw is None or not self._parsed or parse_meta(raw) == self.meta:
            return raw
        return None


def read_image(reader: ByteReader) -> WireImage:
    """An image with data `channels z y x`.

    Raises:
        ProtocolError: An unknown data_type.
    """
    raw = reader.bytes(IMAGE_HEADER_BYTES, "header")
    head = ImageHeader.from_buffer(raw)
    if head.data_type not in PIXELS:
        raise ProtocolError(
            f"an image has data_type {head.data_type}, expected 1 to 8; the stream is damaged"
        )
    (size,) = reader.unpack(UINT64)
    if size > reader.limits.meta_bytes:
        raise ProtocolError(
            f"an image promises {size} bytes of meta, expected at most "
            f"{reader.limits.meta_bytes}; the stream is damaged, or needs a higher limit "
            f"({VARIABLE}=meta_bytes=...)"
        )
    attributes = bytes(reader.bytes(size, "meta"))
    x, y, z = head.matrix_size
    pixels = reader.array(PIXELS[head.data_type], (head.channels, z, y, x), "pixels")
    image = WireImage(head, attributes)
    image.data[...] = pixels
    return image


def image_parts(image: Any) -> list[Part]:
    """The bytes of `read_image`, for any `ismrmrd.Image`."""
    head = image.getHead()
    attributes = image.unchanged if isinstance(image, WireImage) else None
    if attributes is None:
        attributes = meta_bytes(image.meta)
        head.attribute_string_len = len(attributes)
    pixels = image.data.astype(PIXELS[head.data_type], copy=False)
    return [bytes(head), UINT64.pack(len(attributes)), attributes, samples_part(np.asarray(pixels))]


def meta_bytes(meta: Any) -> bytes:
    """An `ismrmrd.Meta` as it travels: the bytes of its `serialize`, ten times as fast.

    Args:
        meta: The meta; lists are several values of one name.
    """
    if not meta:
        return b""
    parts = ["<?xml version='1.0' encoding='UTF-8'?>\n<ismrmrdMeta>"]
    for name, value in meta.items():
        parts.append(f"<meta>{_element('name', name)}")
        values = value if type(value) is list else [value]
        parts += [_element("value", str(one)) for one in values]
        parts.append("</meta>")
    parts.append("</ismrmrdMeta>")
    return "".join(parts).encode("utf-8", "xmlcharrefreplace")


def _element(name: str, text: str) -> str:
    return f"<{name}>{escape(text)}</{name}>" if text else f"<{name} />"


def parse_meta(attributes: bytes) -> Any:
    """Meta as they travel (XML, or nothing) as `ismrmrd.Meta`.

    Raises:
        ProtocolError: They are no XML of this kind.
    """
    text = attributes.rstrip(b"\0").strip()
    if not text:
        return ismrmrd.Meta()
    if b"<!DOCTYPE" in text:  # UTF-8, which is all that is read below
        raise ProtocolError(
            "the meta of an image declare a document type, expected plain ismrmrdMeta XML; remove "
            "the DOCTYPE"
        )
    try:
        return ismrmrd.Meta.deserialize(text.decode("utf-8"))
    except Exception as error:  # the parser's errors have no common root
        raise ProtocolError(
            f"the meta of an image can't be read ({error}), expected ismrmrdMeta XML; fix the "
            "sender"
        ) from error
