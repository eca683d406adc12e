"""Streams that end at any byte: the peer that died is noticed, and nothing else is believed."""

import itertools
import os
from pathlib import Path

import pytest

from chpnet_stream.errors import PeerGoneError, ProtocolError
from chpnet_stream.mrd.wire.byte_stream import BytesStream
from chpnet_stream.mrd.wire.reader import MessageReader
from tests.hostile.targets import bucket_scans, plain_scans, recorded, scan_of

EVERY = bool(os.environ.get("CHPNET_HOSTILE_EVERY"))
"""Every byte of every recording: some minutes."""


def bounds(data: bytes) -> list[int]:
    """Where messages begin, and the end."""
    reader = MessageReader(BytesStream(data))
    found = [0]
    while reader.read() is not None:
        found.append(reader.bytes.position)
    return found


def places(start: int, end: int) -> list[int]:
    """Bytes of a message at which it is cut: all of its head, some of its samples."""
    inside = range(start + 1, end)
    if EVERY or len(inside) < 600:
        return list(inside)
    return [*inside[:400], *inside[400:-8:997], *inside[-8:]]


def check(data: bytes) -> int:
    """Cut every message of a stream wherever it can be cut; returns how often."""
    cuts = 0
    starts = bounds(data)
    kinds: dict[bytes, int] = {}
    for start, end in itertools.pairwise(starts):
        kind = data[start : start + 2]
        kinds[kind] = kinds.get(kind, 0) + 1
        if kinds[kind] > 3 and not EVERY:  # one acquisition is cut like another
            continue
        for place in places(start, end):
            reader = MessageReader(BytesStream(data[start:place]))
            with pytest.raises(PeerGoneError, match="in the middle of"):
                reader.read()
            cuts += 1
    return cuts


def test_recorded_streams_cut_at_any_byte() -> None:
    folder = recorded()
    if folder is None:
        pytest.skip("no recorded streams (CHPNET_SHARED_DATA)")
    files = sorted(folder.glob("*.bin"))
    assert files
    for path in files:
        assert check(path.read_bytes()) > 20, Path(path).name


@pytest.mark.parametrize("data", [*plain_scans(), *bucket_scans()])
def test_scans_cut_at_any_byte(data: bytes) -> None:
    assert check(data) > 1000


@pytest.mark.parametrize("kind", ["acquisitions", "buffers"])
def test_a_scan_whose_peer_dies_at_any_message_is_told_as_failed(kind: str) -> None:
    """Judged by `scan_of`: ERROR and CLOSE for whoever is still there."""
    data = plain_scans()[0] if kind == "acquisitions" else bucket_scans()[0]
    starts = bounds(data)
    take = scan_of(kind)
    for place in (*starts[:-1], *(n + 1 for n in starts[:-1]), *(n + 200 for n in starts[:-2])):
        with pytest.raises(ProtocolError):
            take(data[:place])
    assert take(data) == "reconstructed"
