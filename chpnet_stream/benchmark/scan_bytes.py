"""A scan as the bytes that a scanner sends, over and over."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chpnet_stream.benchmark.plan import CALIBRATION_LINES, Case, Maps
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.messages import Config, Header
from chpnet_stream.mrd.wire.writer import message_parts
from chpnet_stream.simulation.options import SimulationOptions
from chpnet_stream.simulation.scan import simulate_scan

POSITIONS = 4
"""Slices that are simulated; their repetitions differ in their counters only."""


class ScanBytes:
    """A series of slices of the head phantom, R = 4 with 24 calibration lines, and its noise scan.

    Attributes:
        lines: Readouts of one slice.

    Args:
        case: Size.
        maps: Whether positions come again (`Plan.maps`).
    """

    def __init__(self, case: Case, maps: Maps = "kept") -> None:
        self.maps = maps
        size = (case.matrix, case.matrix)
        options = SimulationOptions(
            matrix=size,
            fov_mm=(240.0, 240.0),
            slices=POSITIONS,
            interleaved=False,
            coils=case.coils,
            acceleration=case.acceleration,
            calibration_lines=min(CALIBRATION_LINES, case.matrix),
        )
        noise: list[bytes] = []
        slices: list[list[tuple[Any, bytes]]] = [[] for _ in range(POSITIONS)]
        with tempfile.TemporaryDirectory(prefix="chpnet-bench-") as folder:
            path = Path(folder) / "scan.h5"
            simulate_scan(path, options)
            with ScanFile(path) as scan:
                self.header: bytes = scan.header.xml
                for line in scan.acquisitions():
                    if int(line.flags) & flags.NOISE:
                        noise.append(_bytes(line))
                        continue
                    head = line.getHead()
                    # The end of the repetition and of the scan are where the series ends.
                    head.flags &= ~(flags.LAST_IN_REPETITION | flags.LAST_IN_MEASUREMENT)
                    raw = _bytes(line)
                    behind = 2 + len(bytes(head))
                    slices[head.idx.slice].append((head, raw[behind:]))
        self.noise = b"".join(noise)
        self._slices = slices
        self.lines = len(slices[0])

    def greeting(self, properties: dict[str, str]) -> bytes:
        """Configuration and header, as Gadgetron sends them."""
        lines = "".join(f'<property name="{n}" value="{v}"/>' for n, v in properties.items())
        config = f'<?xml version="1.0"?><configuration>{lines}</configuration>'
        return _bytes(Config(config.encode())) + _bytes(Header(self.header))

    def slice(self, number: int) -> Iterator[bytes]:
        """The lines of slice `number` of the series, from 0."""
        position = number % POSITIONS
        for head, samples in self._slices[position]:
            if self.maps == "new":
                head.idx.slice, head.idx.repetition = number % 2**16, 0
            else:
                head.idx.repetition = number // POSITIONS % 2**16
            yield MESSAGE_ID + bytes(head) + samples


MESSAGE_ID = struct.pack("<H", 1008)


def _bytes(item: Any) -> bytes:
    return b"".join(bytes(part) for part in message_parts(item))
