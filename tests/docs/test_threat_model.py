"""The limits that the page names are those of the code, and its tests are there."""

import re
from pathlib import Path

from chpnet_stream import plain_xml
from chpnet_stream.cli.cmd_serve import command
from chpnet_stream.dashboard import patience
from chpnet_stream.mrd import header, header_xml
from chpnet_stream.mrd.wire.limits import WireLimits
from chpnet_stream.scan.coil_count import MOST_COILS
from chpnet_stream.scan.slices import (
    MOST_OPEN,
    MOST_OPEN_BYTES,
    MOST_PROMISED,
    MOST_SLICE_BYTES,
)
from chpnet_stream.size_limits import NAMES
from chpnet_stream.streaming.inbox import INBOX_BYTES

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs" / "threat-model.md").read_text(encoding="utf-8")
UNITS = {"MiB": 2**20, "GiB": 2**30}


def limit(row: str) -> int:
    """The first size of a row of the table of limits."""
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {row}"))
    number, unit = re.findall(r"(\d+) (MiB|GiB)", line)[0]
    return int(number) * UNITS[unit]


def test_limits() -> None:
    limits = WireLimits()
    assert limit("configuration") == limits.config_bytes
    assert limit("XML header") == header_xml.MAX_XML_BYTES
    assert limit("text, query") == limits.text_bytes
    assert limit("meta of an image") == limits.meta_bytes
    assert limit("one acquisition") == limits.item_bytes
    assert limit("one bucket") == limits.collection_bytes
    assert limit("items that wait") == INBOX_BYTES
    assert header.LARGEST_MATRIX == 2**27
    assert "| 2²⁷ | `mrd.header.LARGEST_MATRIX` |" in PAGE
    assert limit("one slice of k-space") == MOST_SLICE_BYTES
    assert limit("slices open at a time") == MOST_OPEN_BYTES
    assert f"| {MOST_OPEN}, or " in PAGE
    assert f"up to {MOST_PROMISED:,} and {MOST_SLICE_BYTES // 2**30} GiB" in PAGE
    for name in NAMES:
        assert f"`{name}`" in PAGE


def test_further_limits() -> None:
    assert f"| {MOST_COILS:,} | `scan.coil_count.MOST_COILS` |" in PAGE
    assert f"| {plain_xml.DEEPEST} | `plain_xml.DEEPEST` |" in PAGE
    told = f"| {patience.MOST_OPEN}, {patience.REQUEST_SECONDS:g} s | `dashboard.patience` |"
    assert told in PAGE


def test_options_of_servers() -> None:
    defaults = {p.name: p.default for p in command.params}
    assert f"| {defaults['connections']}, {defaults['workers']} | `--connections`" in PAGE
    assert f"| {defaults['patience']:g} s, {defaults['idle']:g} s | `--patience`" in PAGE
    assert f"| {defaults['summary_keep']:,} | `--summary-keep`" in PAGE
    assert f"| {defaults['dashboard_memory']} MB | `--dashboard-memory`" in PAGE


def test_the_tests_that_it_names_are_there() -> None:
    for place in re.findall(r"`(tests/[^`]+)`", PAGE):
        assert (CHECKOUT / place).exists(), place
