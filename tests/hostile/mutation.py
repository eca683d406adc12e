"""Bad inputs made of good ones, by a seed: the same number gives the same input for ever."""

import re
import struct
from collections.abc import Callable, Sequence

import numpy as np

EDGES = (0, 1, 2, 7, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**24, 2**31 - 1, 2**31,
         2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
"""Numbers at which programs go wrong."""

WORDS = (
    b"", b"nan", b"inf", b"-1", b"0", b"1e308", b"1e999", b"-0.0", b"65535", b"65536", b"1000000",
    b"2147483648", b"18446744073709551615", b"9" * 400, b"0x10", b"1_000", b"true",
    "\u0661".encode(), b"\x00", b"%s%n", b"../../etc/passwd", b"cartesian", b"spiral",
    b"A" * 70_000,
)  # fmt: skip
"""Texts to put where numbers or words stand."""

DOCTYPE = (
    b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>',
    b'<!DOCTYPE a SYSTEM "file:///etc/passwd">',
    b'<!DOCTYPE a [<!ENTITY % p SYSTEM "http://127.0.0.1:9/x"> %p;]>',
)

Change = Callable[[bytearray, np.random.Generator], bytearray]


def _spot(data: Sequence[int], rng: np.random.Generator) -> int:
    """A place, more often near the beginning, where sizes and kinds stand."""
    reach = len(data) if rng.random() < 0.5 else min(len(data), 1500)
    return int(rng.integers(max(reach, 1)))


def flip_bits(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A few bits turned over."""
    for _ in range(int(rng.integers(1, 9))):
        if data:
            data[_spot(data, rng)] ^= 1 << int(rng.integers(8))
    return data


def put_edge(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A number of 2, 4 or 8 bytes replaced by one from `EDGES`."""
    size = int(rng.choice([2, 4, 8]))
    spot = _spot(data, rng) // 2 * 2
    value = EDGES[int(rng.integers(len(EDGES)))] % 2 ** (8 * size)
    data[spot : spot + size] = value.to_bytes(size, "little")
    return data


def put_float(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A float that is none, or a huge one."""
    values = (float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 1e-45)
    spot = _spot(data, rng) // 4 * 4
    data[spot : spot + 4] = struct.pack("<f", values[int(rng.integers(len(values)))])
    return data


def cut(data: bytearray, rng: np.random.Generator) -> bytearray:
    """The rest left away."""
    del data[int(rng.integers(len(data) + 1)) :]
    return data


def leave_out(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A piece left out."""
    spot = _spot(data, rng)
    del data[spot : spot + int(rng.integers(1, 400))]
    return data


def repeat(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A piece that comes twice."""
    spot = _spot(data, rng)
    piece = data[spot : spot + int(rng.integers(1, 2000))]
    data[spot:spot] = piece
    return data


def insert(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Noise in between."""
    spot = _spot(data, rng)
    data[spot:spot] = rng.bytes(int(rng.integers(1, 64)))
    return data


BYTES: tuple[Change, ...] = (
    flip_bits, put_edge, put_edge, put_float, cut, leave_out, repeat, insert,
)  # fmt: skip


def other_value(data: bytearray, rng: np.random.Generator) -> bytearray:
    """The text of an element, or of an attribute, replaced."""
    places = list(re.finditer(rb">([^<>]*)<|\"([^\"]*)\"", data))
    if places:
        match = places[int(rng.integers(len(places)))]
        group = 1 if match.group(1) is not None else 2
        start, end = match.span(group)
        data[start:end] = WORDS[int(rng.integers(len(WORDS)))]
    return data


def no_element(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A tag left out, or an element with all that is in it."""
    tags = list(re.finditer(rb"<([A-Za-z_]\w*)[^<>]*>", data))
    if not tags:
        return data
    match = tags[int(rng.integers(len(tags)))]
    end = data.find(b"</" + match.group(1), match.end())
    stop = data.find(b">", end) + 1 if end > 0 and rng.random() < 0.7 else match.end()
    del data[match.start() : stop]
    return data


def element_twice(data: bytearray, rng: np.random.Generator) -> bytearray:
    """An element that comes again, or hundreds of times."""
    tags = list(re.finditer(rb"<(\w+)[^<>]*>[^<>]*</\1>", data))
    if tags:
        match = tags[int(rng.integers(len(tags)))]
        times = 1 if rng.random() < 0.8 else 500
        data[match.end() : match.end()] = match.group(0) * times
    return data


def nested(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Elements in elements in elements."""
    depth = int(rng.choice([10, 300, 20_000]))
    spot = data.find(b">", _spot(data, rng)) + 1
    data[spot:spot] = b"<a>" * depth + b"</a>" * depth
    return data


def doctype(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A document type: entities, external files."""
    spot = data.find(b"?>") + 2 if data.startswith(b"<?xml") else 0
    data[spot:spot] = DOCTYPE[int(rng.integers(len(DOCTYPE)))]
    return data


def other_encoding(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Another encoding of the same text, a document type in it or not."""
    if rng.random() < 0.5:
        data = doctype(data, rng)
    text = bytes(data).decode("utf-8", "replace")
    text = re.sub(r"<\?xml[^>]*\?>", "", text, count=1)
    kind = str(rng.choice(["utf-16", "utf-16-be", "utf-32", "utf-7", "latin-1"]))
    head = f'<?xml version="1.0" encoding="{kind}"?>' if rng.random() < 0.7 else ""
    return bytearray((head + text).encode(kind, "replace"))


XML: tuple[Change, ...] = (
    other_value, other_value, other_value, no_element, element_twice, nested, doctype,
    other_encoding, flip_bits, cut, repeat, insert,
)  # fmt: skip


def mutated(seeds: Sequence[bytes], changes: Sequence[Change], rng: np.random.Generator) -> bytes:
    """One of the seeds with one to four changes.

    Args:
        seeds: Good inputs.
        changes: What may be done to them.
        rng: Source of all randomness.
    """
    data = bytearray(seeds[int(rng.integers(len(seeds)))])
    for _ in range(int(rng.choice([1, 1, 1, 2, 3, 4]))):
        data = changes[int(rng.integers(len(changes)))](data, rng)
    return bytes(data)
