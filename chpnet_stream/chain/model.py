"""A chain as Gadgetron understands it: readers, writers, and nodes that messages walk through."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A class in a library: a reader, a writer, a gadget or a distributor."""

    line: int
    classname: str
    dll: str
    slot: int | None = None
    properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Gadget:
    """A gadget of Gadgetron."""

    line: int
    part: Part


@dataclass(frozen=True)
class Execute:
    """A process that Gadgetron starts for the scan."""

    line: int
    module: str
    target: str
    type: str


@dataclass(frozen=True)
class Connect:
    """A server that Gadgetron connects to."""

    line: int
    port: str
    address: str


@dataclass(frozen=True)
class External:
    """A gadget outside of Gadgetron, with the properties that it is sent."""

    line: int
    action: Execute | Connect
    properties: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Distributed:
    """A stream that runs on workers."""

    line: int
    readers: tuple[Part, ...]
    writers: tuple[Part, ...]
    distributor: Part | None
    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Parallel:
    """Streams side by side on this computer."""

    line: int
    streams: tuple[tuple[Node, ...], ...]


Node = Gadget | External | Distributed | Parallel


@dataclass(frozen=True)
class Chain:
    """A whole chain."""

    line: int
    readers: tuple[Part, ...]
    writers: tuple[Part, ...]
    nodes: tuple[Node, ...]
