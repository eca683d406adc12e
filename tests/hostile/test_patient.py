"""Who is in the scanner stays out of logs, pages, metrics and summaries, unless it is asked for."""

import http.client
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.messages import Close, Text
from tests.gadgets.peers import (
    GadgetProcess,
    configuration,
    conversation,
    exchange,
    greeting,
    raw,
)
from tests.hostile.servers import ServerProcess

PLANTED = "PLANTED"
SUBJECT = f"""<subjectInformation><patientName>{PLANTED}NAME^ONE</patientName>
<patientWeight_kg>71.25</patientWeight_kg><patientID>{PLANTED}ID</patientID>
<patientBirthdate>19570319</patientBirthdate><patientGender>O</patientGender></subjectInformation>
<studyInformation><studyDate>2001-02-03</studyDate><studyID>{PLANTED}STUDY</studyID>
<accessionNumber>9081726</accessionNumber>
<referringPhysicianName>{PLANTED}DOCTOR</referringPhysicianName>
<studyDescription>{PLANTED}DESCRIPTION</studyDescription></studyInformation>"""
MEASUREMENT = f"""<measurementDependency><dependencyType>Noise</dependencyType>
<measurementID>{PLANTED}NOISE</measurementID></measurementDependency>
<seriesDescription>{PLANTED}SERIES</seriesDescription>"""
OTHERS = f"""<userParameters><userParameterString><name>{PLANTED}NAME</name>
<value>{PLANTED}VALUE</value></userParameterString></userParameters>
<waveformInformation><waveformName>{PLANTED}WAVE</waveformName>
<waveformType>{PLANTED}TYPE</waveformType></waveformInformation>"""
"""Numbers and free texts, which may be those of a patient too."""

TRACES = re.compile(rf"{PLANTED}|1957-?03-?19|71\.25|9081726")


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan whose header says who it is of."""
    from chpnet_stream.simulation.scan import simulate_scan
    from tests.helpers import small_options

    path = tmp_path_factory.mktemp("patient") / "scan.h5"
    simulate_scan(path, small_options())
    with h5py.File(path, "r+") as file:
        xml = file["dataset/xml"][0].decode()
        xml = re.sub(r"<(subject|study)Information>.*?</\1Information>", "", xml, flags=re.DOTALL)
        at = re.search(r"<ismrmrdHeader[^>]*>", xml)
        assert at is not None
        xml = xml[: at.end()] + SUBJECT + xml[at.end() :]
        for end, more in (("measurementInformation", MEASUREMENT), ("ismrmrdHeader", OTHERS)):
            assert f"</{end}>" in xml
            xml = xml.replace(f"</{end}>", f"{more}</{end}>")
        file["dataset/xml"][0] = xml
    return path


@pytest.fixture(scope="module")
def broken(scan: Path) -> Path:
    """The same, of a kind that is refused."""
    path = scan.with_name("broken.h5")
    shutil.copy(scan, path)
    with h5py.File(path, "r+") as file:
        xml = file["dataset/xml"][0].decode()
        file["dataset/xml"][0] = xml.replace("cartesian", "spiral")
    return path


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where logs and caches of this test go."""
    for variable in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    return tmp_path


def found_in(folder: Path) -> str:
    """Everything that was written there."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".h5"]
    return "\n".join(p.read_bytes().decode("utf-8", "replace") for p in files)


def run(*words: object) -> str:
    """What a command says, with every word it can say."""
    done = subprocess.run(
        [sys.executable, "-m", "chpnet_stream", "-v", "--debug", *map(str, words)],
        capture_output=True,
        timeout=280,
        env=os.environ,
    )
    return (done.stdout + done.stderr).decode("utf-8", "replace")


@pytest.mark.parametrize("verb", ["offline", "info"])
def test_commands_and_their_log_files(places: Path, scan: Path, broken: Path, verb: str) -> None:
    words = ["--method", "cg-sense"] if verb == "offline" else []
    said = ""
    for path in (scan, broken):
        out = ["-o", places / f"{path.stem}_images.h5"] if verb == "offline" else []
        said += run(verb, path, *words, *out)
    written = found_in(places)
    assert "command line" in written  # there is a log file, and it is read here
    assert "spiral" in said
    assert not TRACES.search(said + written)


def spoken(path: Path) -> bytes:
    """A whole scan whose peer says something in words as well."""
    with ScanFile(path) as scan:
        first, *lines = scan.acquisitions()
        config = configuration(method="cg-sense")
        said = Text(f"{PLANTED}NAME is in the scanner".encode())
        return greeting(scan.header.xml, config) + raw(first, said, *lines, Close())


def test_a_gadget(scan: Path, broken: Path) -> None:
    logs = ""
    for path in (scan, broken):
        with GadgetProcess("chpnet_gadgets.acquisitions") as gadget:
            answer = gadget.converse(spoken(path))
        logs += answer.log + "".join(answer.errors)
        assert len(answer.images) == (2 if path == scan else 0)
    assert "spiral" in logs
    assert "says something" in logs
    assert not TRACES.search(logs)


@pytest.mark.parametrize("door", ["serve", "gadget"])
@pytest.mark.parametrize("asked", [False, True], ids=["by default", "asked for"])
def test_servers_pages_metrics_and_summaries(
    places: Path, scan: Path, broken: Path, door: str, asked: bool
) -> None:
    summaries = places / "summaries"
    words = ["--dashboard", "0", "--summary", str(summaries), "--log-json"]
    with ServerProcess(door, *words, *(["--show-patient"] if asked else [])) as server:
        for path in (scan, broken):
            with server.connect() as sock:
                answer = exchange(sock, spoken(path))
            assert len(answer.images) == (2 if path == scan else 0)
        page = re.search(r"http://127\.0\.0\.1:(\d+)/", "".join(server.log))
        assert page is not None
        shown = ""
        for address in ("/", "/api/scans", "/metrics"):
            connection = http.client.HTTPConnection("127.0.0.1", int(page.group(1)), timeout=60)
            connection.request("GET", address)
            shown += connection.getresponse().read().decode("utf-8", "replace")
            connection.close()
        _, log = server.stop()
    assert "chpnet" in shown
    assert "spiral" in log
    assert "says something" in log
    assert not TRACES.search(log)
    assert len(list(summaries.iterdir())) == 2
    if asked:
        assert f"{PLANTED}NAME" in shown + found_in(summaries)
    else:
        assert not TRACES.search(shown + found_in(places))


def test_send_and_pipe(places: Path, scan: Path, broken: Path) -> None:
    with ServerProcess("serve") as server:
        said = "".join(
            run("send", path, "--port", server.port, "-o", places / f"{path.stem}_got.h5")
            for path in (scan, broken)
        )
    for path in (scan, broken):
        words = [sys.executable, "-m", "chpnet_stream", "-v", "--debug", "pipe"]
        words += ["--method", "cg-sense"]
        stream = conversation(path, configuration())
        done = subprocess.run(words, input=stream, capture_output=True, timeout=280)
        said += done.stderr.decode("utf-8", "replace")
        said += done.stdout.decode("latin-1")
    assert "spiral" in said
    assert not TRACES.search(said + found_in(places))


def test_the_traces_are_there_to_be_found(scan: Path) -> None:
    with h5py.File(scan) as file:
        xml = file["dataset/xml"][0].decode()
    assert len(TRACES.findall(xml)) == 14
    assert TRACES.search(raw().decode()) is None
