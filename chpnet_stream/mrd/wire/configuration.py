"""Properties in the configuration that a peer sends."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from chpnet_stream.errors import ConfigurationError

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
    if b"<!DOCTYPE" in raw:
        raise ConfigurationError(
            "the configuration has a document type declaration, expected plain <property> "
            "elements; remove it"
        )
    try:
        root = ElementTree.fromstring(raw)  # noqa: S314 - no document type, so no entities
    except ElementTree.ParseError as error:
        raise ConfigurationError(
            f"the configuration is no XML ({error}), expected <configuration> with <property> "
            "elements; check the chain with `chpnet-stream chain`"
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
