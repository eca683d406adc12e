"""XML of strangers: no document types, so no entities and no other files, and one kind of error."""

from __future__ import annotations

import xml.etree.ElementTree as ET

DEEPEST = 100
"""Elements within each other; an ISMRMRD header has 6. Python's own limit is no error of ours."""


class PlainXmlError(ValueError):
    """Why some bytes are not XML that is read here, in words for the end of a sentence."""


class _Plain(ET.TreeBuilder):
    depth = 0

    def start(self, tag: str, attributes: dict[str, str]) -> ET.Element:
        """Called where an element begins."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise PlainXmlError(f"it has more than {DEEPEST} elements within each other")
        return super().start(tag, attributes)

    def end(self, tag: str) -> ET.Element:
        """Called where an element ends."""
        self.depth -= 1
        return super().end(tag)

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Called at <!DOCTYPE, before anything in it is acted on."""
        raise PlainXmlError(f"it declares a document type '{name}'; remove the DOCTYPE")


def parse_plain_xml(raw: bytes) -> ET.Element:
    """The root element.

    Args:
        raw: A document in an encoding that expat knows (UTF-8, UTF-16, ISO-8859-1, US-ASCII) or
            any single-byte one that Python knows.

    Raises:
        PlainXmlError: Not well-formed, an unknown encoding, too deep, or a document type
            declaration (where entities come in that fill the memory or read files).
    """
    try:
        return ET.fromstring(raw, parser=ET.XMLParser(target=_Plain()))  # noqa: S314
    except PlainXmlError:
        raise
    except ET.ParseError as error:
        raise PlainXmlError(f"it is not well-formed ({error})") from error
    except (ValueError, LookupError) as error:  # of encodings
        raise PlainXmlError(f"its encoding can't be read ({error}); write UTF-8") from error
