"""What walks through a chain: which messages every node gets, and which go on behind it."""

from __future__ import annotations

from collections.abc import Sequence

from chpnet_stream.chain import catalogue
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
from chpnet_stream.chain.ours import (
    check_action,
    check_model,
    check_properties,
    is_ours,
    kind_of,
)
from chpnet_stream.chain.report import Report, Step

TAKES = {
    "acquisitions": frozenset({catalogue.ACQUISITIONS}),
    "buffers": frozenset({catalogue.BUCKETS, catalogue.RECON_DATA}),
    "images": catalogue.IMAGES | {catalogue.IMAGE_ARRAYS},
}
BEFORE = {
    "acquisitions": "an AcquisitionReader, and no gadget that gathers acquisitions",
    "buffers": "AcquisitionAccumulateTriggerGadget and BucketToBufferGadget before it",
    "images": "a reconstruction before it, for example GenericReconCartesianGrappaGadget",
}

Kinds = frozenset[str]
"""Kinds of messages; None stands for what can't be known behind a foreign node."""


class Flow:
    """Follows the messages through a chain and notes where they don't arrive.

    Args:
        report: Where steps and faults are noted.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        self.workers: Distributed | None = None
        self.found_ours = False

    def chain(self, chain: Chain) -> None:
        """Follow a whole chain, from its readers to its writers."""
        start = _of(chain.readers, catalogue.READERS)
        if start is not None and catalogue.WAVEFORMS not in start:
            self.report.warning(
                chain.line,
                "there is no WaveformReader: a scan with waveforms (ECG, breathing) will fail",
            )
        end = self._nodes(chain.nodes, start)
        if not self.found_ours:
            self.report.warning(chain.line, "nothing in this chain is from chpnet-stream")
        writers = _of(chain.writers, catalogue.WRITERS)
        if end is None or writers is None:
            return
        if catalogue.IMAGE_ARRAYS in end - writers:
            self.report.error(
                chain.line,
                "image arrays reach the end, and no client reads these; put ImageArraySplitGadget "
                "behind what makes them",
            )
        elif not end & catalogue.IMAGES:
            self.report.error(
                chain.line,
                f"no images reach the end, only {_words(end)}; the client will wait in vain",
            )
        elif not end & catalogue.IMAGES & writers:
            self.report.error(chain.line, "images reach the end, and no ImageWriter writes them")

    def _nodes(self, nodes: Sequence[Node], kinds: Kinds | None) -> Kinds | None:
        for node in nodes:
            if isinstance(node, Gadget):
                kinds = self._gadget(node, kinds)
                name = node.part.classname
            elif isinstance(node, External):
                arriving = kinds
                kinds = self._external(node, kinds)
                name = _name(node)
                if isinstance(node.action, Connect) and arriving is not None:
                    name += f", a server for {_arriving(arriving) or 'nothing of these'}"
            elif isinstance(node, Distributed):
                kinds = self._distributed(node, kinds)
                continue
            else:
                kinds = self._parallel(node, kinds)
                continue
            self.report.steps.append(Step(node.line, name, _words(kinds)))
        return kinds

    def _gadget(self, node: Gadget, kinds: Kinds | None) -> Kinds | None:
        name = node.part.classname
        known = catalogue.GADGETS.get(name)
        if known is None or kinds is None:
            return None
        taken = kinds & known.takes
        if not taken:
            self.report.warning(
                node.line,
                f"{name} does nothing here: it takes {_words(known.takes)}, and there are "
                f"{_words(kinds)}; is it in the right place?",
            )
            return kinds
        return kinds if known.gives is None else (kinds - taken) | {known.gives}

    def _external(self, node: External, kinds: Kinds | None) -> Kinds | None:
        check_action(node, self.report)
        if self.workers is not None:
            self._on_a_worker(node)
        if kinds is not None and catalogue.INT16 in kinds:
            self.report.error(
                node.line,
                "int16 images come in, which Gadgetron can't read back from an external gadget; "
                "put FloatToShortGadget behind it",
            )
        if not is_ours(node):
            self.report.warning(node.line, f"{_name(node)} is foreign, and is not checked")
            return None
        self.found_ours = True
        options = check_properties(node, self.report)
        kind = kind_of(node) or (None if kinds is None else _arriving(kinds))
        if kind is None:
            return None
        if kinds is not None and not kinds & TAKES[kind]:
            self.report.error(
                node.line,
                f"the {kind} gadget gets none of {_words(TAKES[kind])}, there are "
                f"{_words(kinds)}; expected {BEFORE[kind]}",
            )
            return None
        if options is None:
            return None
        check_model(node, kind, options, self.report)
        if self.workers is not None and options.dtype == "uint16":
            self.report.warning(
                node.line,
                "dtype=uint16 on workers: every slice gets a scale of its own, and brightness "
                "jumps between slices; take float32",
            )
        if kind == "images" or kinds is None:
            return kinds
        made = catalogue.COMPLEX if options.image_type == "complex" else catalogue.FLOAT
        return (kinds - TAKES[kind]) | {catalogue.UINT16 if options.dtype == "uint16" else made}

    def _on_a_worker(self, node: External) -> None:
        """Gadgetron writes the stream anew for its workers, and leaves things out."""
        action = node.action
        if isinstance(action, Execute):
            self.report.error(
                node.line,
                "<execute> in <distributed>: Gadgetron loses its target on the way to the worker; "
                'run `chpnet-stream gadget` on every worker, and <connect port="18000"/>',
            )
        elif action.address:
            self.report.error(
                node.line,
                f"<connect> in <distributed>: Gadgetron loses the address {action.address} on the "
                "way to the worker, which connects to itself; leave it out",
            )

    def _distributed(self, node: Distributed, kinds: Kinds | None) -> Kinds | None:
        self.report.steps.append(Step(node.line, "distributed", _words(kinds)))
        there = _of(node.writers, catalogue.WRITERS)
        read = _of(node.readers, catalogue.READERS)
        taken = kinds
        if kinds is not None and node.distributor is not None:
            known = catalogue.DISTRIBUTORS.get(node.distributor.classname)
            taken = kinds if known is None else kinds & known.takes
        self._crosses(node, "out", taken, there, read)
        self._noise(node, taken)
        outer, self.workers = self.workers, node
        made = self._nodes(node.nodes, taken)
        self.workers = outer
        self._crosses(node, "back", made, there, read)
        if kinds is None or taken is None or made is None:
            return None
        return (kinds - taken) | made

    def _noise(self, node: Distributed, kinds: Kinds | None) -> None:
        """Noise scans have to be used before acquisitions part ways."""
        before = any(step.node == "NoiseAdjustGadget" for step in self.report.steps)
        if kinds is not None and catalogue.ACQUISITIONS in kinds and not before:
            self.report.warning(
                node.line,
                "acquisitions are distributed without NoiseAdjustGadget before it: the noise scan "
                "reaches one worker only, and slices get different noise levels",
            )

    def _crosses(
        self,
        node: Distributed,
        way: str,
        kinds: Kinds | None,
        writers: Kinds | None,
        readers: Kinds | None,
    ) -> None:
        """Every kind that goes between the computers needs a writer and a reader."""
        for ports, what in ((writers, "writer"), (readers, "reader")):
            if kinds is not None and ports is not None and not kinds & ports:
                self.report.error(
                    node.line,
                    f"<distributed> has no {what} for what goes {way} ({_words(kinds)}); list it "
                    f"in its <{what}s>",
                )

    def _parallel(self, node: Parallel, kinds: Kinds | None) -> Kinds | None:
        self.report.steps.append(Step(node.line, "parallel", _words(kinds)))
        ends = [self._nodes(stream, kinds) for stream in node.streams]
        found: Kinds = frozenset()
        for end in ends:
            if end is None:
                return None
            found |= end
        return found


def _of(parts: Sequence[Part], known: dict[str, catalogue.Port]) -> Kinds | None:
    """What readers or writers are for; None if one of them isn't known."""
    kinds: Kinds = frozenset()
    for part in parts:
        port = known.get(part.classname)
        if port is None:
            return None
        kinds |= port.kinds
    return kinds


def _arriving(kinds: Kinds) -> str | None:
    """Which gadget a server must run for what it is sent."""
    fit = [kind for kind in ("images", "buffers", "acquisitions") if kinds & TAKES[kind]]
    return fit[0] if fit else None


def _name(node: External) -> str:
    if isinstance(node.action, Connect):
        return f"connect {node.action.address or 'localhost'}:{node.action.port}"
    return node.action.module


def _words(kinds: Kinds | None) -> str:
    if kinds is None:
        return "?"
    return ", ".join(sorted(kinds)) or "nothing"
