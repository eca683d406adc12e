"""What an MRD client asks for: names, XML and JSON, as properties of a reconstruction."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from chpnet_stream.errors import ConfigurationError
from chpnet_stream.near import hint
from chpnet_stream.schema import text_of

Takes = Literal["anything", "images", "noise"]

OURS = "chpnet_gadgets"
LONGEST_NAME = 255
BYTE_ORDER_MARK = "\ufeff"
"""What editors of Windows put before a text."""


@dataclass(frozen=True)
class Configuration:
    """What a client has asked for.

    Attributes:
        name: As the client said it; empty where it named nothing.
        properties: What that means here.
        about: What that means here, in words.
        takes: What must come: images only, noise only, or anything.
        note: What the images have to tell of it, because it is not what the name says elsewhere.
    """

    name: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    about: str = ""
    takes: Takes = "anything"
    note: str = ""


_CONVENTIONAL = "reconstructed by chpnet-stream, not by the gadgets of that chain"
_GADGETRONS = {"dtype": "uint16"}

WELL_KNOWN = {
    known.name: known
    for known in (
        Configuration("chpnet", {}, "as the server was started"),
        Configuration("openrecon", {}, "as the server was started; JSON parameters say the rest"),
        Configuration("cg-sense", {"method": "cg-sense"}, "conventional images"),
        Configuration(
            "zero-filled",
            {"method": "zero-filled"},
            "coils combined; partial Fourier is completed",
        ),
        Configuration("rss", {"method": "rss"}, "root of the sum of squares of the coils"),
        Configuration(
            "Generic_Cartesian_Grappa",
            {"method": "cg-sense", **_GADGETRONS},
            "conventional images (CG-SENSE, not GRAPPA), as uint16",
            note=_CONVENTIONAL,
        ),
        Configuration(
            "Generic_Cartesian_FFT",
            {"method": "rss", **_GADGETRONS},
            "root of the sum of squares, as uint16",
            note=_CONVENTIONAL,
        ),
        Configuration(
            "default",
            {"method": "rss", **_GADGETRONS},
            "Gadgetron's simplest chain: root of the sum of squares, as uint16",
            note=_CONVENTIONAL,
        ),
        Configuration(
            "simplefft",
            {"method": "rss", **_GADGETRONS},
            "that of python-ismrmrd-server: root of the sum of squares, as uint16",
            note="reconstructed by chpnet-stream, not by that module",
        ),
        Configuration(
            "default_measurement_dependencies",
            {},
            "a noise measurement that later ones refer to: it is kept, no images",
            takes="noise",
        ),
    )
}
"""Names that are understood beside those of the installed chains (docs/server.md)."""


class Configurations:
    """Finds out what a client asks for.

    Args:
        aliases: Further names, each standing for one that is known.

    Raises:
        ConfigurationError: An alias stands for something unknown.
    """

    def __init__(self, aliases: Mapping[str, str] | None = None) -> None:
        self.aliases: dict[str, Configuration] = {}
        self.aliases = {
            _plain(name): replace(self.named(meant), name=name)
            for name, meant in (aliases or {}).items()
        }

    def named(self, name: str) -> Configuration:
        """The configuration of a name, with or without `.xml`.

        Raises:
            ConfigurationError: There is none; the near name is told.
        """
        from chpnet_stream.chain.document import read_document
        from chpnet_stream.chain.installed import about, installed_chains

        plain = _plain(name)
        if not plain:
            return Configuration()
        known = {_plain(n): c for n, c in WELL_KNOWN.items()} | self.aliases
        if plain in known:
            return replace(known[plain], name=name)
        chains = installed_chains()
        if plain in chains:
            made = self._of_chain(chains[plain].read_bytes(), name)
            return replace(made, about=about(read_document(chains[plain]).comment))
        names = [*WELL_KNOWN, *chains, *(c.name for c in self.aliases.values())]
        raise ConfigurationError(
            f"unknown configuration '{name[:LONGEST_NAME]}'; "
            f"{hint(name.removesuffix('.xml'), names)}"
        )

    def listed(self) -> list[dict[str, Any]]:
        """Every name that is known, with what it means, in the order of the table."""
        from chpnet_stream.chain.installed import installed_chains

        found = [*WELL_KNOWN.values(), *(self.named(name) for name in installed_chains())]
        return [
            {
                "name": one.name,
                "properties": dict(one.properties),
                "takes": one.takes,
                "about": one.about,
            }
            for one in (*found, *self.aliases.values())
        ]

    def of_message(self, raw: bytes) -> Configuration:
        """What a CONFIG message asks for: XML, JSON, or a name.

        Raises:
            ConfigurationError: It can't be understood.
        """
        text = raw.rstrip(b"\0").decode("utf-8", "replace").lstrip(BYTE_ORDER_MARK).strip()
        if text.startswith("{"):
            return self.of_json(text)
        if text and not text.startswith("<") and len(text) <= LONGEST_NAME and text.isprintable():
            return self.named(text)
        return self._of_chain(raw, "")

    def of_json(self, text: str, base: Configuration | None = None) -> Configuration:
        """What JSON parameters ask for: `{"parameters": {"config": NAME, PROPERTY: VALUE, ...}}`.

        Args:
            text: JSON, as FIRE, OpenRecon and python-ismrmrd-server's client send it.
            base: What was asked for before; a `config` or `customconfig` replaces it.

        Raises:
            ConfigurationError: It is no JSON of this kind, or names an unknown configuration.
        """
        try:
            found = json.loads(text.lstrip(BYTE_ORDER_MARK))
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(
                f"the JSON parameters can't be read ({error}), expected "
                '{"parameters": {"NAME": "VALUE"}}; check the client'
            ) from error
        parameters = found.get("parameters") if isinstance(found, dict) else None
        if not isinstance(parameters, dict):
            raise ConfigurationError(
                f"found JSON of {len(text)} characters without parameters, expected "
                '{"parameters": {"NAME": "VALUE"}}; check the client'
            )
        names = [parameters.pop(key, "") for key in ("customconfig", "config")]
        name = next((str(n).strip() for n in names if n is not None and str(n).strip()), "")
        start = self.named(name) if name else base or Configuration()
        values = {str(key): _text(str(key), value) for key, value in parameters.items()}
        return replace(start, properties={**start.properties, **values})

    def _of_chain(self, raw: bytes, name: str) -> Configuration:
        """Properties of a `<configuration>`: its own, or those of our gadget in a whole chain."""
        from chpnet_stream.mrd.wire.configuration import NOTHING, properties

        found = properties(raw)  # also makes sure that it is XML without a document type
        raw = raw.rstrip(b"\0")
        if found or NOTHING.fullmatch(raw):
            return Configuration(name, found, "properties")
        root = ElementTree.fromstring(raw)  # noqa: S314 - see above
        if not _is_chain(root):
            return Configuration(name, {}, "properties")
        nodes = [node for node in root.iter("external") if _is_ours(node)]
        if not nodes:
            return Configuration(name, {}, "another chain", note=_CONVENTIONAL)
        if len(nodes) > 1:
            raise ConfigurationError(
                f"the chain has {len(nodes)} gadgets of chpnet-stream, expected one; send a "
                "<configuration> with the properties themselves"
            )
        inner = nodes[0].find("configuration")
        mine = {} if inner is None else properties(ElementTree.tostring(inner))
        execute = nodes[0].find("execute")
        module = "" if execute is None else execute.get("name", "")
        takes: Takes = "images" if module == f"{OURS}.images" else "anything"
        return Configuration(name, mine, "our gadget in a chain", takes)


def _is_chain(root: ElementTree.Element) -> bool:
    """Whether it is a whole chain: with a stream, or one of Gadgetron's first version."""
    return root.find("stream") is not None or root.tag.endswith("gadgetronStreamConfiguration")


def _is_ours(node: ElementTree.Element) -> bool:
    execute = node.find("execute")
    if execute is None:
        return node.find("connect") is not None
    return execute.get("name", "").partition(".")[0] == OURS


def _plain(name: str) -> str:
    return name.strip().removesuffix(".xml")


def _text(name: str, value: Any) -> str:
    """A JSON value as the text of a property.

    Raises:
        ConfigurationError: It is a list or an object.
    """
    if value is None or isinstance(value, list | dict):
        raise ConfigurationError(
            f"parameter {name}: found {json.dumps(value)[:80]}, expected a text, a number, or true "
            "or false"
        )
    return text_of(value)
