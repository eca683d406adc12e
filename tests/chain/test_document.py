import os
from pathlib import Path

import pytest

from chpnet_stream.chain.document import MOST_BYTES, read_document
from chpnet_stream.errors import ConfigurationError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "chain.xml"
    path.write_text(text, encoding="utf-8")
    return path


def test_elements_know_their_lines_and_the_comment_before_them_is_kept(tmp_path: Path) -> None:
    text = "<!-- About. -->\n<a>\n  <b c='1'> two </b>\n  <!-- inside -->\n  <b/>\n</a>"
    document = read_document(write(tmp_path, text))
    assert document.comment == " About. "
    assert [(b.line, b.attributes, b.text) for b in document.root.named("b")] == [
        (3, {"c": "1"}, " two "),
        (5, {}, ""),
    ]
    assert document.root.value("b") == "two"
    assert document.root.value("none") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<a><b></a>", "mismatched tag in line 1"),
        ("<!-- chpnet-stream gadget --port 1 -->\n<a/>", "two dashes in a row"),
        ("", "no well-formed XML"),
        ("<a x='1 & 2'/>", "&amp;"),
    ],
)
def test_what_is_no_xml_is_told_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        read_document(write(tmp_path, text))


@pytest.mark.parametrize(
    "declaration",
    [
        "<!DOCTYPE a>",
        '<!DOCTYPE a SYSTEM "http://example.org/a.dtd">',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]>',
    ],
)
def test_document_types_and_entities_are_refused(tmp_path: Path, declaration: str) -> None:
    path = write(tmp_path, f"<?xml version='1.0'?>\n{declaration}\n<a>&x;</a>")
    with pytest.raises(ConfigurationError, match="document type declaration in line 2"):
        read_document(path)


def test_a_missing_file_and_one_that_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_document(tmp_path / "none.xml")
    with pytest.raises(ConfigurationError, match="a file of"):
        read_document(write(tmp_path, "<a>" + " " * MOST_BYTES + "</a>"))
    scan = tmp_path / "scan.h5"
    scan.touch()
    os.truncate(scan, 2**40)  # it is not read as a whole
    with pytest.raises(ConfigurationError, match="a file of 1,099,511,627,776 bytes"):
        read_document(scan)
