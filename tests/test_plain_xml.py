"""XML of strangers: what is read, and that the rest is refused in words."""

import pytest

from chpnet_stream.configurations import Configurations
from chpnet_stream.errors import ConfigurationError, HeaderError
from chpnet_stream.mrd.header import ScanHeader
from chpnet_stream.plain_xml import DEEPEST, PlainXmlError, parse_plain_xml


def nested(depth: int) -> bytes:
    return b"<a>" * depth + b"</a>" * depth


def test_depth_ends_where_it_is_said_to() -> None:
    assert len(list(parse_plain_xml(nested(DEEPEST)).iter())) == DEEPEST
    side_by_side = b"<a>" + (DEEPEST * nested(2)) + b"</a>"
    assert len(list(parse_plain_xml(side_by_side).iter())) == 2 * DEEPEST + 1
    with pytest.raises(PlainXmlError, match=f"more than {DEEPEST} elements within each other"):
        parse_plain_xml(nested(DEEPEST + 1))


def test_deep_xml_of_peers_is_an_error_of_ours() -> None:
    inner = b"<execute name='chpnet_gadgets.acquisitions'/><configuration>" + nested(100_000)
    chain = b"<configuration><stream/><external>" + inner
    with pytest.raises(ConfigurationError, match="within each other"):
        Configurations().of_message(chain + b"</configuration></external></configuration>")
    with pytest.raises(HeaderError, match="within each other"):
        ScanHeader.from_xml(b"<ismrmrdHeader>" + nested(100_000) + b"</ismrmrdHeader>")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_document_types_are_refused_in_every_encoding(encoding: str) -> None:
    text = f"<?xml version='1.0' encoding='{encoding}'?><!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"
    with pytest.raises(PlainXmlError, match="document type 'a'"):
        parse_plain_xml(text.encode(encoding))
