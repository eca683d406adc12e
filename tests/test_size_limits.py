"""Limits that the environment changes."""

from pathlib import Path

import pytest

from chpnet_stream.errors import (
    ConfigurationError,
    InconsistentScanError,
    ProtocolError,
    UnsupportedScanError,
)
from chpnet_stream.mrd.wire.byte_stream import BytesStream
from chpnet_stream.mrd.wire.limits import WireLimits
from chpnet_stream.mrd.wire.messages import Text
from chpnet_stream.mrd.wire.reader import MessageReader
from chpnet_stream.mrd.wire.writer import message_parts
from chpnet_stream.mrd_server import MrdServer
from chpnet_stream.size_limits import NAMES, VARIABLE, WIRE, configured_limits, size_limit
from tests.sessions import run, simulated


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch):
    """Sets the variable."""
    return lambda text: monkeypatch.setenv(VARIABLE, text)


def test_without_the_variable_the_usual_limits_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert dict(configured_limits()) == {}
    assert WireLimits.configured() == WireLimits()
    assert size_limit("coils", 7) == 7


def test_what_it_says_holds(limits) -> None:
    limits(" item_bytes=2GiB, coils = 2048,text_bytes=3 KiB,, dimensions=9 ")
    found = {"item_bytes": 2**31, "coils": 2048, "text_bytes": 3072, "dimensions": 9}
    assert dict(configured_limits()) == found
    assert size_limit("coils", 7) == 2048
    assert WireLimits.configured() == WireLimits(item_bytes=2**31, text_bytes=3072, dimensions=9)


def test_names_of_messages_are_those_of_their_limits() -> None:
    assert set(WIRE) == set(vars(WireLimits()))
    assert set(WIRE) < set(NAMES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("item_byte=1", "did you mean 'item_bytes'"),
        ("rubbish=1", "rubbish"),
        ("coils", "coils=''"),
        ("coils=0", "above zero"),
        ("coils=-1", "above zero"),
        ("item_bytes=2GB", "KiB, MiB or GiB"),
        ("item_bytes=" + "9" * 40, "whole number"),
    ],
)
def test_what_it_can_not_say_is_refused(text: str, words: str, limits) -> None:
    limits(text)
    with pytest.raises(ConfigurationError, match=VARIABLE) as caught:
        configured_limits()
    assert words in str(caught.value)
    with pytest.raises(ConfigurationError):  # a server says it when it is started
        MrdServer("127.0.0.1", 0)


def test_messages_keep_to_it(limits) -> None:
    data = b"".join(bytes(part) for part in message_parts(Text(b"x" * 100_000)))
    assert MessageReader(BytesStream(data)).read() == Text(b"x" * 100_000)
    limits("text_bytes=1KiB")
    with pytest.raises(ProtocolError, match=VARIABLE):
        MessageReader(BytesStream(data)).read()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("coils=3", InconsistentScanError),
        ("slice_bytes=1KiB", UnsupportedScanError),
        ("matrix_samples=100", UnsupportedScanError),
    ],
)
def test_scans_keep_to_it(text: str, error: type[Exception], limits, tmp_path: Path) -> None:
    path = simulated(tmp_path, slices=1, coils=4)
    limits(text)
    with pytest.raises(error, match=f"{VARIABLE}={text.partition('=')[0]}=..."):
        run(path)


def test_few_slices_may_be_open(limits, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = simulated(tmp_path, slices=3, interleaved=True)
    limits("open_slices=1,open_slices_bytes=1GiB")
    session, images = run(path)
    assert len(images) >= 3
    assert session.assembler.max_open == 1
    assert session.assembler.max_open_bytes == 2**30
