"""From XML to a chain; what Gadgetron's own reader would refuse, or silently overlook, is told."""

from __future__ import annotations

from chpnet_stream.chain import catalogue
from chpnet_stream.chain.document import Element
from chpnet_stream.chain.model import (
    Chain,
    Connect,
    Distributed,
    Execute,
    External,
    Gadget,
    Node,
    Parallel,
    Part,
)
from chpnet_stream.chain.report import Report
from chpnet_stream.near import hint, nearest
from chpnet_stream.whole_number import whole_number

NODES = ("gadget", "external", "distributed", "parallel", "puredistributed", "parallelprocess")
HIGHEST_PORT = 65535


class ChainParser:
    """Makes a chain of a document.

    Args:
        report: Where faults are noted.
    """

    def __init__(self, report: Report) -> None:
        self.report = report

    def chain(self, root: Element) -> Chain | None:
        """The chain; None if it is of a kind in which nothing of ours can stand."""
        if root.tag == "gadgetronStreamConfiguration":
            self.report.error(
                root.line,
                "found a chain of version 1 (<gadgetronStreamConfiguration>), which has no "
                "<external>, expected <configuration> with <version>2</version>; write it anew",
            )
            return None
        if root.tag != "configuration" or root.value("version") != "2":
            self.report.error(
                root.line,
                f"found <{root.tag}> with version '{root.value('version')}', expected "
                "<configuration> with <version>2</version>; Gadgetron refuses anything else",
            )
            return None
        self._only(root, ("version", "readers", "writers", "stream"))
        return Chain(
            root.line,
            self._ports(root, "reader"),
            self._ports(root, "writer"),
            self._stream(self._needed(root, "stream")),
        )

    def _only(self, element: Element, known: tuple[str, ...]) -> None:
        """Children that Gadgetron would overlook without a word."""
        for child in element:
            if child.tag not in known:
                self.report.warning(
                    child.line,
                    f"<{child.tag}> in <{element.tag}> is overlooked; {hint(child.tag, known)}",
                )

    def _needed(self, element: Element, tag: str) -> Element | None:
        found = element.named(tag)
        if len(found) != 1:
            self.report.error(
                element.line, f"expected one <{tag}> in <{element.tag}>, found {len(found)}"
            )
        return found[0] if found else None

    def _ports(self, element: Element, kind: str) -> tuple[Part, ...]:
        """Readers or writers."""
        listed = self._needed(element, f"{kind}s")
        if listed is None:
            return ()
        self._only(listed, (kind,))
        known = catalogue.READERS if kind == "reader" else catalogue.WRITERS
        parts = [self._part(e, {name: port.dll for name, port in known.items()})
                 for e in listed.named(kind)]  # fmt: skip
        for part in parts:
            port = known.get(part.classname)
            if port is not None and part.slot is not None and part.slot != port.slot:
                self.report.error(
                    part.line,
                    f"{part.classname} has slot {part.slot}, expected {port.slot}, the id of the "
                    "messages that it reads; leave <slot> out",
                )
        return tuple(parts)

    def _part(self, element: Element, known: dict[str, str]) -> Part:
        """A class in a library, compared with those that are known."""
        name, dll = element.value("classname"), element.value("dll")
        for tag, value in (("classname", name), ("dll", dll)):
            if not value:
                self.report.error(element.line, f"<{element.tag}> has no <{tag}>; add it")
        if name in known and dll and dll != known[name]:
            self.report.error(
                element.line, f"{name} is in the library {known[name]}, found <dll>{dll}</dll>"
            )
        elif name and name not in known:
            near = nearest(name, known, alike=0.85)
            self.report.warning(
                element.line,
                f"{name} is no class of Gadgetron 4.7 that is known here"
                + (f"; did you mean '{near}'?" if near else ", and is not checked"),
            )
        told = element.value("slot")
        slot = whole_number(told)
        if told and slot is None:
            self.report.error(element.line, f"found <slot>{told}</slot>, expected a number")
        return Part(
            element.line,
            name,
            dll,
            slot,
            self._properties(element),
        )

    def _properties(self, element: Element) -> tuple[tuple[str, str], ...]:
        """Names and values of the <property> children, in either of Gadgetron's spellings."""
        found: dict[str, str] = {}
        for child in element.named("property"):
            short = "name" in child.attributes and "value" in child.attributes
            long = child.first("name") is not None and child.first("value") is not None
            if short == long:
                self.report.error(
                    child.line,
                    'expected <property name="..." value="..."/>, found one with '
                    f"{'two names' if short else 'no name or no value'}",
                )
                continue
            name = child.attributes["name"] if short else child.value("name")
            value = child.attributes["value"] if short else child.value("value")
            if name.strip() in found:
                self.report.error(child.line, f"property '{name}' is set twice; remove one")
            found[name.strip()] = value.strip()
        self._choices(element, found)
        return tuple(found.items())

    def _choices(self, element: Element, properties: dict[str, str]) -> None:
        for name, value in properties.items():
            choices = catalogue.CHOICES.get((element.value("classname"), name))
            if choices is not None and value not in choices:
                self.report.error(
                    element.line, f"property {name}: found '{value}'; {hint(value, choices)}"
                )

    def _stream(self, element: Element | None) -> tuple[Node, ...]:
        if element is None:
            return ()
        nodes = [self._node(child) for child in element]
        if not nodes:
            self.report.error(element.line, f"<{element.tag}> is empty; put the gadgets there")
        return tuple(node for node in nodes if node is not None)

    def _node(self, element: Element) -> Node | None:
        tag = element.tag
        if tag == "gadget":
            known = {name: gadget.dll for name, gadget in catalogue.GADGETS.items()}
            return Gadget(element.line, self._part(element, known))
        if tag == "external":
            return self._external(element)
        if tag in ("distributed", "puredistributed"):
            return self._distributed(element, pure=tag == "puredistributed")
        if tag == "parallel":
            for name in ("branch", "merge"):
                self._needed(element, name)
            streams = element.named("stream")
            return Parallel(element.line, tuple(self._stream(s) for s in streams))
        if tag == "parallelprocess":
            if whole_number(element.attributes.get("workers", "")) is None:
                self.report.error(element.line, '<parallelprocess> needs workers="NUMBER"')
            return Parallel(element.line, (self._pure(element),))
        self.report.error(
            element.line, f"<{tag}> can't stand in a stream, Gadgetron fails; {hint(tag, NODES)}"
        )
        return None

    def _pure(self, element: Element) -> tuple[Node, ...]:
        """A stream of gadgets alone."""
        stream = self._needed(element, "purestream")
        for child in stream or ():
            if child.tag != "gadget":
                self.report.error(
                    child.line,
                    f"<purestream> takes gadgets only, found <{child.tag}>; move it out, or use "
                    "<distributed> with a <stream>",
                )
        return self._stream(stream)

    def _distributed(self, element: Element, *, pure: bool) -> Distributed:
        distributor = None if pure else self._needed(element, "distributor")
        known = {name: part.dll for name, part in catalogue.DISTRIBUTORS.items()}
        return Distributed(
            element.line,
            self._ports(element, "reader"),
            self._ports(element, "writer"),
            None if distributor is None else self._part(distributor, known),
            self._pure(element) if pure else self._stream(self._needed(element, "stream")),
        )

    def _external(self, element: Element) -> External | None:
        self._only(element, ("execute", "connect", "configuration", "readers", "writers"))
        actions = [child for child in element if child.tag in ("execute", "connect")]
        if len(actions) != 1:
            self.report.error(
                element.line,
                f"expected one <execute> or <connect> in <external>, found {len(actions)}",
            )
            return None
        for kind in ("reader", "writer"):
            if element.first(f"{kind}s") is not None:
                self._ports(element, kind)
        listed = element.first("configuration")
        return External(
            element.line,
            self._action(actions[0]),
            () if listed is None else self._properties(listed),
        )

    def _action(self, element: Element) -> Execute | Connect:
        given = element.attributes
        known = ("name", "target", "type") if element.tag == "execute" else ("port", "address")
        for name in given:
            if name not in known:
                self.report.warning(
                    element.line,
                    f"attribute '{name}' of <{element.tag}> is overlooked; {hint(name, known)}",
                )
        if element.tag == "connect":
            port = given.get("port", "")
            if not 1 <= (whole_number(port) or 0) <= HIGHEST_PORT:
                self.report.error(
                    element.line, f"found port '{port}', expected a number from 1 to 65535"
                )
            return Connect(element.line, port, given.get("address", ""))
        return Execute(
            element.line, given.get("name", ""), given.get("target", ""), given.get("type", "")
        )
