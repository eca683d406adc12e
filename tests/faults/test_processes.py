"""A model whose weights are damaged, through real processes."""

import subprocess
import sys
from pathlib import Path

import ismrmrd
import pytest

from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.messages import Close, Header
from tests.gadgets.peers import GadgetProcess, configuration, conversation, messages_in, raw
from tests.network.models import tiny_config, untrained, write_model


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Card of a model one byte of whose weights has changed."""
    card = write_model(tmp_path_factory.mktemp("damaged"), untrained(tiny_config()))
    weights = card.with_suffix(".safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return card


def test_a_gadget_sends_conventional_images(damaged: Path, small_scan: Path) -> None:
    config = configuration(model=damaged, engine="pytorch")
    with GadgetProcess("chpnet_gadgets.acquisitions") as gadget:
        answer = gadget.converse(conversation(small_scan, config))
    assert answer.status == 0
    assert answer.errors == []
    assert [i.meta["ChpnetMethod"] for i in answer.images] == ["cg-sense"] * 2
    assert all("SHA-256" in i.meta["ChpnetFallback"] for i in answer.images)
    assert "could not be loaded" in answer.log


@pytest.mark.parametrize("on_error", ["fallback", "error"])
def test_a_pipe_does_as_on_error_says(damaged: Path, small_scan: Path, on_error: str) -> None:
    with ScanFile(small_scan) as scan:
        data = raw(Header(scan.header.xml), *scan.acquisitions(), Close())
    words = ["pipe", "--model", str(damaged), "--engine", "pytorch"]
    words += ["--property", f"on_error={on_error}"]
    done = subprocess.run(
        [sys.executable, "-m", "chpnet_stream", *words],
        input=data,
        capture_output=True,
        timeout=110,
        check=False,
    )
    images = [m for m in messages_in(done.stdout) if isinstance(m, ismrmrd.Image)]
    if on_error == "error":
        assert done.returncode != 0
        assert images == []
        assert b"SHA-256" in done.stderr
    else:
        assert done.returncode == 0
        assert ["SHA-256" in i.meta["ChpnetFallback"] for i in images] == [True, True]
