"""Shipped chains are right; every fault in a changed one is found."""

import re
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from chpnet_stream.chain.document import read_document
from chpnet_stream.chain.model import Distributed, External
from chpnet_stream.chain.parsing import ChainParser
from chpnet_stream.chain.report import Report
from chpnet_stream.mrd.wire.configuration import properties
from chpnet_stream.network import weights
from chpnet_stream.network.weights import MODELS
from tests.chain.chains import SHIPPED, chain, changed, check, external, gadget, shipped

TRIGGER = gadget("AcquisitionAccumulateTriggerGadget", trigger_dimension="slice")
TO_BUFFER = gadget("BucketToBufferGadget")
RECON = gadget("SimpleReconGadget")
SPLIT = gadget("ImageArraySplitGadget")
CARTESIAN, CONNECT = "chpnet_cartesian", "chpnet_cartesian_connect"
DISTRIBUTED = "chpnet_distributed"


@pytest.fixture(autouse=True)
def this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gadgetron would start the python of these tests."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))


def test_there_are_shipped_chains() -> None:
    assert len(SHIPPED) >= 6


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_chains_have_no_fault(tmp_path: Path, path: Path) -> None:
    report = check(tmp_path, path.read_text(encoding="utf-8"))
    assert report.errors == []
    assert [w.text for w in report.warnings if "no model for the task" not in w.text] == []
    assert report.steps


def test_recorded_chains_have_no_structural_fault(shared_data: Path, tmp_path: Path) -> None:
    for path in sorted((shared_data / "wire").glob("*.xml")):
        errors = [e.text for e in check(tmp_path, path.read_text(encoding="utf-8")).errors]
        # The images and image arrays of these recordings went to a gadget that passed them on.
        assert [e for e in errors if "is for the task 'kspace'" not in e] == [], path.name


FAULTS = [
    # structure
    (changed(CARTESIAN, ("<version>2</version>", "")), "expected <configuration> with <version>2"),
    (changed(CARTESIAN, ("configuration>", "config>")), "found <config>"),
    ("<gadgetronStreamConfiguration/>", "chain of version 1"),
    (changed(CARTESIAN, ("<stream>", "<streem>"), ("</stream>", "</streem>")), "one <stream>"),
    (chain(), "<stream> is empty"),
    (chain("<gadgt/>", external()), "<gadgt> can't stand in a stream.*'gadget'"),
    (chain("<external><configuration/></external>"), "one <execute> or <connect>"),
    (chain("<gadget><dll>gadgetron_mricore</dll></gadget>", external()), "no <classname>"),
    (
        chain('<gadget><dll>a</dll><classname>X</classname><property name="a"/></gadget>'),
        "no name or no value",
    ),
    (
        chain(
            "<parallelprocess workers='2'><purestream>" + external() + "</purestream>"
            "</parallelprocess>"
        ),
        "<purestream> takes gadgets only",
    ),
    # classes and libraries
    (
        changed("chpnet_buffers", ("<dll>gadgetron_mricore</dll>", "<dll>gadgetron_core</dll>")),
        "NoiseAdjustGadget is in the library gadgetron_mricore",
    ),
    (
        changed(CARTESIAN, ("<classname>ImageWriter", "<slot>1008</slot><classname>ImageWriter")),
        "slot 1008, expected 1022",
    ),
    (changed("chpnet_buffers", ('value="slice"', 'value="slices"')), "did you mean 'slice'"),
    # our gadgets
    (changed(CARTESIAN, ("gadgets.acquisitions", "gadgets.aquisitions")), "chpnet_gadgets.acqui"),
    (changed(CARTESIAN, ('"reconstruct"', '"reconstuct"')), "expected 'reconstruct'"),
    (changed(CARTESIAN, (' target="reconstruct"', "")), "found the target ''"),
    (changed(CARTESIAN, ('type="python"', 'type="pyhton"')), "expected python"),
    (changed(CARTESIAN, ('"on_error"', '"onerror"')), "did you mean 'on_error'"),
    (changed(CARTESIAN, ('"fallback"', '"falback"')), "did you mean 'fallback'"),
    (changed("chpnet_realtime", ('"150"', '"soon"')), "deadline_ms: found 'soon'"),
    (chain(external(model="chpnet-rtt")), "did you mean 'chpnet-rt'"),
    (chain(external(image_type="complex", dtype="uint16")), "expected float32"),
    (
        changed(CARTESIAN, ('<property name="engine"', '<property name="model"')),
        "'model' is set twice",
    ),
    (chain(external("images", model="chpnet-rt")), "gets none of"),
    (
        chain(TRIGGER, TO_BUFFER, RECON, SPLIT, external("images", model="chpnet-rt")),
        "for the task 'kspace', expected one for 'superres'",
    ),
    # ports
    (changed(CONNECT, ('"18000"', '"180000"')), "from 1 to 65535"),
    (changed(CONNECT, ('"18000"', '"²"')), "found port '²'"),
    (changed(CONNECT, ('"18000"', f'"{"1" * 5000}"')), "from 1 to 65535"),
    (changed(CONNECT, ('port="18000"', "")), "found port ''"),
    (changed(CONNECT, ('"18000"', '"9002"')), "Gadgetron's own"),
    # order
    (chain(external("buffers")), "the buffers gadget gets none.*BucketToBufferGadget before it"),
    (chain(TRIGGER, TO_BUFFER, external()), "the acquisitions gadget gets none"),
    (
        chain(
            TRIGGER, TO_BUFFER, RECON, SPLIT, gadget("ComplexToFloatGadget"),
            gadget("FloatToShortGadget"), external("images"),
        ),
        "int16 images come in",
    ),
    (chain(TRIGGER, TO_BUFFER, RECON, external("images")), "image arrays reach the end"),
    (chain(gadget("NoiseAdjustGadget")), "no images reach the end, only acquisitions"),
    (
        changed(CARTESIAN, ("<classname>ImageWriter", "<classname>BufferWriter")),
        "no ImageWriter writes them",
    ),
    (
        changed(CARTESIAN, ("<classname>AcquisitionReader", "<classname>ImageReader")),
        "gets none of acquisitions",
    ),
    # distributed
    (
        changed(
            DISTRIBUTED,
            ('<connect port="18000"/>',
             '<execute name="chpnet_gadgets.acquisitions" target="reconstruct" type="python"/>'),
        ),
        "loses its target",
    ),
    (
        changed(DISTRIBUTED, ('port="18000"/>', 'port="18000" address="10.0.0.7"/>')),
        "loses the address 10.0.0.7",
    ),
    (
        changed(DISTRIBUTED, ("<classname>ImageReader", "<classname>BufferReader")),
        "no reader for what goes back",
    ),
    (
        changed(
            DISTRIBUTED,
            ("GadgetIsmrmrdAcquisitionMessageWriter", "GadgetIsmrmrdWaveformMessageWriter"),
        ),
        "no writer for what goes out",
    ),
    (changed(DISTRIBUTED, ('value="slice"', 'value="slize"')), "did you mean 'slice'"),
    (changed(DISTRIBUTED, ("distributor>", "distribution>")), "one <distributor>"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("properties", "level", "expected"),
    [
        ({"on_error": "error"}, "error", "with on_error=error the scan ends with an error"),
        ({}, "warning", "images go on unchanged"),
    ],
)
def test_no_model_for_images(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    properties: dict[str, str],
    level: str,
    expected: str,
) -> None:
    """Where somebody has taken it away."""
    monkeypatch.setattr(weights, "installed_models", lambda: ["chpnet-rt"])
    text = chain(TRIGGER, TO_BUFFER, RECON, external("images", **properties), SPLIT)
    found = [f for f in check(tmp_path, text).findings if expected in f.text]
    assert [f.level for f in found] == [level]


@pytest.mark.parametrize(("text", "expected"), FAULTS, ids=[e for _, e in FAULTS])
def test_a_fault_is_found(tmp_path: Path, text: str, expected: str) -> None:
    report = check(tmp_path, text)
    assert any(re.search(expected, e.text) for e in report.errors), report.findings
    assert all(e.line >= 1 for e in report.findings)


DOUBTS = [
    (changed("chpnet_buffers", ("NoiseAdjustGadget", "NoiseAjustGadget")), "'NoiseAdjustGadget'"),
    (chain(gadget("MySiteGadget"), external()), "MySiteGadget is no class.*not checked"),
    (changed(CARTESIAN, ("WaveformReader", "AcquisitionReader")), "no WaveformReader"),
    (chain(external(), gadget("ExtractGadget")), "ExtractGadget does nothing here"),
    (changed("chpnet_buffers", ('"float32"', '"uint16"')), "FloatToShortGadget does nothing"),
    (chain(TRIGGER, TO_BUFFER, RECON, SPLIT), "nothing in this chain is from chpnet-stream"),
    (chain(external("images", virtual_coils="4")), "virtual_coils means nothing to the images"),
    (changed(CARTESIAN, ("<version>", "<wersion/><version>")), "<wersion> in <configuration>"),
    (changed(CONNECT, ("address", "address"), ('port="18000"', 'port="18000" host="a"')), "'host'"),
    (changed(CONNECT, ('"18000"', '"80"')), "only root"),
    (chain('<external><execute name="mine" type="python"/></external>'), "mine is foreign"),
    (changed(DISTRIBUTED, ('"float32"', '"uint16"')), "every slice gets a scale of its own"),
    (
        changed(DISTRIBUTED, ("NoiseAdjustGadget", "CoilReductionGadget")),
        "without NoiseAdjustGadget before it",
    ),
]


@pytest.mark.parametrize(("text", "expected"), DOUBTS, ids=[e for _, e in DOUBTS])
def test_what_may_be_wrong_is_warned_of(tmp_path: Path, text: str, expected: str) -> None:
    report = check(tmp_path, text)
    assert any(re.search(expected, w.text) for w in report.warnings), report.findings


def test_a_finding_has_the_line_of_its_element(tmp_path: Path) -> None:
    text = changed(CARTESIAN, ('"reconstruct"', '"reconstuct"'))
    (error,) = check(tmp_path, text).errors
    assert "<execute" in text.splitlines()[error.line - 1]


def test_messages_are_followed_through_the_chain(tmp_path: Path) -> None:
    steps = check(tmp_path, shipped("chpnet_buffers")).steps
    assert [s.gives for s in steps[-4:]] == [
        "buckets", "recon data", "float images", "int16 images",
    ]  # fmt: skip


def test_a_server_is_named_by_what_it_must_serve(tmp_path: Path) -> None:
    connect = '<external><connect port="18000"/></external>'
    assert check(tmp_path, chain(connect)).steps[0].node.endswith("a server for acquisitions")
    steps = check(tmp_path, chain(TRIGGER, TO_BUFFER, connect)).steps
    assert steps[-1].node.endswith("a server for buffers")


def test_buckets_go_without_bucket_to_buffer(tmp_path: Path) -> None:
    assert check(tmp_path, chain(TRIGGER, external("buffers"))).errors == []


def test_parallel_streams_are_followed(tmp_path: Path) -> None:
    part = "<dll>gadgetron_core_parallel</dll><classname>{}</classname>"
    branch = f"<branch>{part.format('AcquisitionFanout')}</branch>"
    merge = f"<merge>{part.format('Unordered')}</merge>"
    streams = "".join(f'<stream key="{k}">{external(method="rss")}</stream>' for k in "ab")
    report = check(tmp_path, chain(f"<parallel>{branch}{merge}{streams}</parallel>"))
    assert report.errors == []
    assert [s.node for s in report.steps].count("chpnet_gadgets.acquisitions") == 2


def test_a_damaged_or_relative_model_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source in MODELS.glob("chpnet-rt*"):
        shutil.copy(source, tmp_path)
    card = tmp_path / "chpnet-rt.json"
    assert check(tmp_path, chain(external(model=str(card)))).findings == []
    monkeypatch.chdir(tmp_path)
    (warning,) = check(tmp_path, chain(external(model="chpnet-rt.json"))).findings
    assert "give the whole path" in warning.text
    (tmp_path / "chpnet-rt.0.onnx").write_bytes(b"")
    (error,) = check(tmp_path, chain(external(model=str(card)))).errors
    assert "expected SHA-256" in error.text
    # no network, no model
    assert check(tmp_path, chain(external(model=str(card), method="cg-sense"))).findings == []


def test_the_model_of_a_far_server_is_its_own_business(tmp_path: Path) -> None:
    text = chain(
        '<external><connect port="18000" address="10.0.0.7"/><configuration>'
        '<property name="model" value="/far/away.json"/></configuration></external>'
    )
    report = check(tmp_path, text)
    assert report.errors == []
    assert "the server may have it" in report.warnings[0].text


def test_another_python_on_the_path_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no `python` on the PATH" in check(tmp_path, chain(external())).warnings[0].text
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    assert str(other) in check(tmp_path, chain(external())).warnings[0].text


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_gadget_reads_the_properties_that_the_check_reads(path: Path) -> None:
    root = ElementTree.parse(path).getroot()  # noqa: S314 - our own file
    (node,) = root.iter("external")
    sent = node.find("configuration")
    assert sent is not None
    parser = ChainParser(Report(path))
    chain = parser.chain(read_document(path).root)
    assert chain is not None
    nodes = [*chain.nodes]
    nodes += [inner for n in nodes if isinstance(n, Distributed) for inner in n.nodes]
    (external,) = [n for n in nodes if isinstance(n, External)]
    assert properties(ElementTree.tostring(sent)) == dict(external.properties)
