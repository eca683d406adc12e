"""Properties in the configuration that a peer sends."""

from __future__ import annotations

import re

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.plain_xml import PlainXmlError, parse_plain_xml

NOTHING = re.compile(rb"\s*(<\?xml[^>]*\?>)?\s*")
"""A configuration without an element, as Gadgetron sends it where the chain has none."""


def properties(raw: bytes) -> dict[str, str]:
    """Names and values of the `<property>` elements directly below the root of a configuration.

    Both of Gadgetron's spellings are understood: attributes (`name="..." value="..."`) and
    elements (`<name>...</name><value>...</value>`).

    Args:
        raw: XML, or nothing.

    Raises:
        ConfigurationError: Not XML, a document type declaration, or a property without a name or
            given twice.
    """
    raw = raw.rstrip(b"\0")
    if NOTHING.fullmatch(raw):
        return {}
    try:
        root = parse_plain_xml(raw)
    except PlainXmlError as error:
        raise ConfigurationError(
            f"expected a <configuration> with <property> elements as plain XML, but {error}; check "
            "the chain with `chpnet-stream chain`"
        ) from error
    found: dict[str, str] = {}
    for element in root.findall("property"):
        name = element.get("name") or element.findtext("name")
        value = element.get("value")
        if value is None:
            value = element.findtext("value") or ""
        if not name or name in found:
            fault = f"'{name}' twice" if name else "one without a name"
            raise ConfigurationError(
                f"the configuration has a property {fault}, expected every one once, with name "
                "and value; check the chain with `chpnet-stream chain`"
            )
        found[name.strip()] = value.strip()
    return found
