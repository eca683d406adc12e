"""XML with line numbers, and without anything that XML files can do beside holding data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from chpnet_stream.errors import ConfigurationError

MOST_BYTES = 4 << 20
"""No chain is larger; one that is can't be meant."""


@dataclass
class Element:
    """An element, where it stands, and what is in it."""

    tag: str
    line: int
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def __iter__(self) -> Iterator[Element]:
        """The child elements."""
        return iter(self.children)

    def named(self, tag: str) -> list[Element]:
        """The children with this name."""
        return [child for child in self.children if child.tag == tag]

    def first(self, tag: str) -> Element | None:
        """The first child with this name."""
        return next(iter(self.named(tag)), None)

    def value(self, tag: str) -> str:
        """The text of the first child with this name; empty without one."""
        child = self.first(tag)
        return child.text.strip() if child is not None else ""


@dataclass(frozen=True)
class Document:
    """A whole file: its root element and the comments before it."""

    root: Element
    comment: str


def read_document(path: Path) -> Document:
    """Read an XML file.

    Args:
        path: The file.

    Raises:
        ConfigurationError: It can't be read, is no XML, or declares a document type (through which
            entities and other files come in).
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)  # a scan, named by mistake, may be larger than memory
    except OSError as error:
        raise ConfigurationError(f"{path}: expected a chain, found: {error.strerror}") from error
    if len(raw) > MOST_BYTES:
        raise ConfigurationError(f"{path}: expected a chain, found a file of {size:,} bytes")
    return _Reader(path).read(raw)


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.open: list[Element] = []
        self.root: Element | None = None
        self.comments: list[str] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.CommentHandler = self._comment

    def read(self, raw: bytes) -> Document:
        try:
            self.parser.Parse(raw, True)
        except expat.ExpatError as error:
            raise ConfigurationError(
                f"{self.path}: no well-formed XML: {expat.ErrorString(error.code)} in line "
                f"{error.lineno}; a comment can't have two dashes in a row, and & is written &amp;"
            ) from error
        except (ValueError, LookupError) as error:
            raise ConfigurationError(
                f"{self.path}: its encoding can't be read ({error}); write UTF-8"
            ) from error
        if self.root is None:
            raise ConfigurationError(f"{self.path}: expected <configuration>, found nothing")
        return Document(self.root, "\n".join(self.comments))

    def _refuse(self, *_: object) -> None:
        raise ConfigurationError(
            f"{self.path}: found a document type declaration in line "
            f"{self.parser.CurrentLineNumber}, expected none: remove <!DOCTYPE ...>"
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag.rpartition(":")[2], self.parser.CurrentLineNumber, attributes)
        if self.open:
            self.open[-1].children.append(element)
        else:
            self.root = element
        self.open.append(element)

    def _end(self, _: str) -> None:
        self.open.pop()

    def _text(self, text: str) -> None:
        if self.open:
            self.open[-1].text += text

    def _comment(self, text: str) -> None:
        if self.root is None:
            self.comments.append(text)
