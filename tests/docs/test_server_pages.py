"""What the pages of server and MRD v2 say holds."""

import re
import subprocess
import sys
from pathlib import Path

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.chain.installed import installed_chains
from chpnet_stream.configurations import WELL_KNOWN
from chpnet_stream.mrd.wire.byte_stream import BytesStream
from chpnet_stream.mrd.wire.messages import Close
from chpnet_stream.mrd.wire.reader import MessageReader
from chpnet_stream.scan import noise_store
from chpnet_stream.server import CONNECTIONS, IDLE_SECONDS, PATIENCE_SECONDS, WAITING_BYTES

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "server.md").read_text(encoding="utf-8")
FIELDS = (DOCS / "mrd2.md").read_text(encoding="utf-8")


def test_the_table_of_names_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (?:`([^`|]+)`)? ?\|", PAGE, re.M)
    told = {name: text for name, text in rows if name in WELL_KNOWN}
    meant = {
        name: " ".join(f"{n}={v}" for n, v in known.properties.items())
        for name, known in WELL_KNOWN.items()
    }
    assert told == meant
    assert "chpnet_realtime" in installed_chains()


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    for text in (
        f"`--connections` ({CONNECTIONS})",
        f"`--patience` ({PATIENCE_SECONDS:g} s)",
        f"`--idle` ({IDLE_SECONDS:g} s)",
        f"{WAITING_BYTES // 2**30} GiB over all connections",
        f"the last {noise_store.MOST_MEASUREMENTS} measurements",
    ):
        assert text in PAGE
    assert f"for {noise_store.LONGEST_HOURS:g}\nhours" in PAGE


def test_the_texts_of_errors_are_those_of_the_code() -> None:
    errors = (DOCS / "errors.md").read_text(encoding="utf-8")
    table = errors.partition("## At a server")[2].partition("## ")[0]
    code = "".join(
        path.read_text(encoding="utf-8") for path in (DOCS.parent / "chpnet_stream").rglob("*.py")
    )
    said = re.sub(r'"\s*f?"', "", code)  # texts in several pieces
    rows = [row.split(" | ")[0] for row in table.splitlines() if row.startswith("| `")]
    assert len(rows) > 8
    for row in rows:
        for quoted in re.findall(r"`([^`]+)`", row):
            assert quoted in said, f"nobody says: {quoted}"


def test_every_field_has_its_row() -> None:
    mrd = pytest.importorskip("mrd", reason="no mrd-python (pip install 'chpnet-stream[mrd2]')")
    from chpnet_stream.mrd.v2.header import v2_fields

    parts = dict(re.findall(r"^## (\w+).*?\n(.*?)(?=^## |\Z)", FIELDS, re.M | re.S))
    v1 = {
        "Acquisitions": ismrmrd.AcquisitionHeader(),
        "Images": ismrmrd.Image.from_array(np.ones((2, 2), np.float32)).getHead(),
        "Waveforms": ismrmrd.WaveformHeader(),
    }
    for part, head in v1.items():
        for name, _ in head._fields_:
            assert re.search(rf"\b{name}\b", parts[part]), f"{part}: {name} of v1"
    v2 = {
        "Acquisitions": mrd.AcquisitionHeader,
        "Images": mrd.ImageHeader,
        "Waveforms": mrd.Waveform,
    }
    for part, kind in v2.items():
        for name, _ in v2_fields(kind).values():
            assert re.search(rf"\b{name}\b", parts[part]), f"{part}: {name} of v2"


def test_the_code_of_the_page_writes_a_stream(
    tmp_path: Path, small_scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.S)
    assert code is not None
    (tmp_path / "scan.h5").write_bytes(small_scan.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(code[1], "server.md", "exec"), {})  # noqa: S102 - our own page
    reader = MessageReader(BytesStream((tmp_path / "scan.stream").read_bytes()))
    found = []
    while (message := reader.read()) is not None:
        found.append(message)
    with ismrmrd.Dataset(str(small_scan), mode="r") as dataset:
        assert len(found) == dataset.number_of_acquisitions() + 2
    assert isinstance(found[-1], Close)


def test_the_pipe_of_mrd_tools(tmp_path: Path) -> None:
    """Another program's stream through ours, and on to a third."""
    pytest.importorskip("mrd", reason="no mrd-python (pip install 'chpnet-stream[mrd2]')")
    commands = [line.strip() for line in PAGE.splitlines() if "python -m mrd.tools" in line]
    assert len(commands) == 2
    script = "\n".join(["set -e -o pipefail", *commands])
    script = script.replace("python -m", f"{sys.executable} -m").replace("-m 128", "-m 32")
    script = script.replace("chpnet-stream pipe", f"{sys.executable} -m chpnet_stream pipe")
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("image_*.png"))) == 1
