"""`python -m gadgetron PORT MODULE TARGET`, started as Gadgetron starts it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.byte_stream import SocketStream
from chpnet_stream.mrd.wire.image_array import ImageArray
from chpnet_stream.mrd.wire.messages import Close, Text
from chpnet_stream.mrd.wire.reader import MessageReader
from tests.gadgets.peers import (
    NO_CONFIG,
    GadgetProcess,
    configuration,
    conversation,
    greeting,
    messages_in,
    raw,
)
from tests.scan.building import header_xml

RECORDED = {
    "acquisitions": "acquisitions",
    "acquisitions_cropped": "acquisitions",
    "buckets": "buffers",
    "buffers": "buffers",
    "images": "images",
    "imagearrays": "images",
}
CG = configuration(method="cg-sense")
WAVEFORM = (
    "<waveformInformation><waveformName>ECG</waveformName><waveformType>ecg</waveformType>"
    "</waveformInformation>"
)
"""Without userParameters, which the schema wants and a writer may leave out."""


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_recorded_scans_give_images(shared_data: Path, name: str) -> None:
    data = (shared_data / "wire" / f"{name}.in.bin").read_bytes()
    with GadgetProcess(f"chpnet_gadgets.{RECORDED[name]}") as gadget:
        answer = gadget.converse(data)
    assert answer.status == 0, answer.log
    assert isinstance(answer.messages[-1], Close)
    assert answer.errors == []
    if name == "imagearrays":
        assert [m.data.shape[:2] for m in answer.messages[:-1]] == [(128, 128), (128, 128)]
        assert all(isinstance(m, ImageArray) for m in answer.messages[:-1])
        return
    assert [i.repetition for i in answer.images] == [0, 1]
    for image in answer.images:
        size = 128 if name == "images" else 64
        assert image.data.shape == (1, 1, size, size)
        assert tuple(image.field_of_view) == (300.0, 300.0, 6.0)
    if name == "images":
        assert [i.meta["ChpnetMethod"] for i in answer.images] == ["superres x2"] * 2
        assert [i.meta["ChpnetModel"] for i in answer.images] == ["chpnet-sr"] * 2
    else:
        assert [i.meta["ChpnetMethod"] for i in answer.images] == ["chpnet", "chpnet"]
        assert [i.image_index for i in answer.images] == [1, 2]


def test_a_scan_that_is_not_supported_ends_in_an_error() -> None:
    data = greeting(header_xml(trajectory="spiral").encode()) + raw(Close())
    with GadgetProcess("chpnet_gadgets.acquisitions") as gadget:
        answer = gadget.converse(data)
    assert answer.status == 1
    (text,) = answer.errors
    assert "trajectory is 'spiral', expected 'cartesian'" in text
    assert isinstance(answer.messages[-1], Close)
    assert "Traceback" in answer.log
    assert "UnsupportedScanError" in answer.log


@pytest.mark.parametrize(
    ("old", "new", "images", "says"),
    [
        ("<encoding>", f"{WAVEFORM}<encoding>", 2, ""),
        ("<encoding>", "<encoding><", 0, "not well-formed"),
    ],
    ids=["is fine", "is damaged"],
)
def test_headers_that_only_the_package_can_not_parse(
    small_scan: Path, old: str, new: str, images: int, says: str
) -> None:
    """The package ends without a word on both; the first may come from a real scanner."""
    with ScanFile(small_scan) as scan:
        xml = scan.header.xml.decode()
        assert old in xml
        data = greeting(xml.replace(old, new, 1).encode(), CG) + raw(*scan.acquisitions(), Close())
    with GadgetProcess("chpnet_gadgets.acquisitions") as gadget:
        answer = gadget.converse(data)
    assert len(answer.images) == images
    assert isinstance(answer.messages[-1], Close)
    assert [says in told for told in answer.errors] == ([True] if says else [])
    assert all("can't start" not in told for told in answer.errors)  # the installation is whole
    assert answer.status == (1 if says else 0), answer.log


def test_an_unknown_property_ends_in_an_error(small_scan: Path) -> None:
    data = conversation(small_scan, configuration(methd="cg-sense"))
    with GadgetProcess("chpnet_gadgets.acquisitions") as gadget:
        answer = gadget.converse(data)
    assert answer.status == 1
    (text,) = answer.errors
    assert "methd" in text
    assert "'method'" in text
    assert answer.images == []


def test_a_peer_that_dies_in_the_middle_ends_the_process_quickly(small_scan: Path) -> None:
    data = conversation(small_scan, CG)
    with GadgetProcess("chpnet_gadgets.acquisitions") as gadget:
        gadget.socket.sendall(data[: len(data) // 2])
        time.sleep(0.5)  # somewhere in the import of torch
        gadget.socket.close()
        died = time.monotonic()
        status, log = gadget.ends()
        seconds = time.monotonic() - died
    if status == 1:
        assert "without CLOSE" in log or "in the middle of" in log
        assert "Traceback" in log
    else:  # an import held the interpreter: the process beside it has ended it
        assert status == -signal.SIGKILL
        assert "Gadgetron went away" in log
    started = time.monotonic()
    with GadgetProcess("chpnet_gadgets.acquisitions") as gadget:
        gadget.converse(data)
    whole = time.monotonic() - started
    assert seconds < whole  # measured in scans: absolute times are the machine's


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.6, 0.999])
def test_a_peer_that_dies_in_the_greeting_ends_the_process(small_scan: Path, share: float) -> None:
    """The gadgetron package itself reads configuration and header, before our code is loaded."""
    with ScanFile(small_scan) as scan:
        data = greeting(scan.header.xml, CG)
    with GadgetProcess("chpnet_gadgets.acquisitions") as gadget:
        gadget.socket.sendall(data[: int(share * len(data))])
        time.sleep(0.1)
        gadget.socket.close()
        status, log = gadget.ends(60)
    assert status != 0
    assert "Gadgetron went away" in log


def test_torch_is_not_loaded_before_the_first_bytes_are_read() -> None:
    """The target is imported and has the connection; only then torch comes, on another thread."""
    code = (
        "import sys, chpnet_gadgets.acquisitions, chpnet_gadgets.buffers, chpnet_gadgets.images\n"
        "import gadgetron.external.connection, chpnet_stream.mrd.wire.connection\n"
        "import chpnet_stream.streaming.scan, chpnet_stream.server\n"
        "print([m for m in ('torch', 'onnxruntime') if m in sys.modules])"
    )
    words = [sys.executable, "-c", code]
    out = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert out.stdout.strip() == "[]"


def test_images_leave_as_their_slices_are_complete(small_scan: Path) -> None:
    """A paced stream: the first slice's image is there before the next slice's last line goes."""
    data = conversation(small_scan, CG)
    scan = messages_in(data)
    lines = [m for m in scan if isinstance(m, ismrmrd.Acquisition)]
    first_slice = next(i for i, m in enumerate(lines) if m.isFlagSet(8)) + 1
    start = len(data) - len(raw(*lines, Close()))
    with GadgetProcess("chpnet_gadgets.acquisitions") as gadget:
        gadget.socket.sendall(data[:start] + raw(*lines[:first_slice], *lines[first_slice:-1]))
        reader = MessageReader(SocketStream(gadget.socket))
        image = reader.read()  # the last line of the second slice has not been sent
        assert image.slice == lines[0].idx.slice or image.slice == lines[first_slice - 1].idx.slice
        gadget.socket.sendall(raw(lines[-1], Close()))
        rest = [reader.read(), reader.read()]
        status, log = gadget.ends()
    assert [type(m).__name__ for m in rest] == ["WireImage", "Close"]
    assert status == 0, log


def test_no_configuration_at_all(small_scan: Path) -> None:
    data = conversation(small_scan, NO_CONFIG)
    with GadgetProcess("chpnet_gadgets.acquisitions") as gadget:
        answer = gadget.converse(data)
    assert answer.status == 0, answer.log
    assert [i.meta["ChpnetMethod"] for i in answer.images] == ["chpnet", "chpnet"]
    assert all(i.data.dtype == np.float32 for i in answer.images)
    assert not any(isinstance(m, Text) for m in answer.messages)  # illegal from a gadget
