"""The series that a measured gadget gets."""

import numpy as np
import pytest

from chpnet_stream.benchmark.plan import Case, Plan
from chpnet_stream.benchmark.scan_bytes import POSITIONS, ScanBytes
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.header import ScanHeader
from chpnet_stream.mrd.wire.byte_stream import BytesStream
from chpnet_stream.mrd.wire.messages import Config, Header
from chpnet_stream.mrd.wire.reader import MessageReader
from chpnet_stream.scan.slices import SliceAssembler


def messages(data: bytes) -> list:
    reader = MessageReader(BytesStream(data))
    found = []
    while (message := reader.read()) is not None:
        found.append(message)
    return found


@pytest.fixture(scope="module")
def scan() -> ScanBytes:
    return ScanBytes(Case(64, 3))


def test_greeting_and_noise(scan: ScanBytes) -> None:
    config, header = messages(scan.greeting({"engine": "onnx"}))
    assert isinstance(config, Config)
    assert isinstance(header, Header)
    assert b'name="engine" value="onnx"' in config.raw
    assert ScanHeader.from_xml(header.raw).encodings[0].recon.matrix == (64, 64, 1)
    assert all(int(m.flags) & flags.NOISE for m in messages(scan.noise))


@pytest.mark.parametrize("maps", ["kept", "new"])
def test_slices_go_on_and_on(scan: ScanBytes, maps: str) -> None:
    series = ScanBytes(Case(64, 3), maps)  # type: ignore[arg-type]
    assembler = SliceAssembler(ScanHeader.from_xml(series.header))
    places, data = [], []
    for number in range(2 * POSITIONS + 1):
        lines = messages(b"".join(series.slice(number)))
        assert len(lines) == series.lines
        made = [s for line in lines for s in assembler.feed(line)]
        assert len(made) == 1  # with its last line, no earlier and no later
        assert made[0].complete
        places.append((made[0].counters["slice"], made[0].counters["repetition"]))
        data.append(made[0].kspace)
    assert len(set(places)) == len(places)
    assert len({place for place, _ in places}) == (POSITIONS if maps == "kept" else len(places))
    assert np.array_equal(data[0], data[POSITIONS])
    assert not np.array_equal(data[0], data[1])


def test_one_coil_is_not_accelerated() -> None:
    assert ScanBytes(Case(32, 1)).lines == 32


def test_late_is_twice_the_time_of_a_slice() -> None:
    case = Case(64, 3)
    assert Plan(("onnx",), (case,), rate=4).late_of(case) == 500
    assert Plan(("onnx",), (case,), rate=4, deadline_ms=90).late_of(case) == 90
    assert Plan(("onnx",), (case,), rate=0).late_of(case) == 1000
    assert Plan(("onnx",), (case,), rate=None).late_of(case) == 2e3 / case.pace()
