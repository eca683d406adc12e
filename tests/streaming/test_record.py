"""What is gathered of scans: counts, latencies, marks, and nothing of the patient."""

import json
import random
import re
import time
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
import pytest

from chpnet_stream.json_text import json_text
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.header import ScanHeader
from chpnet_stream.mrd.wire.messages import Close
from chpnet_stream.streaming.events import LiveScan
from chpnet_stream.streaming.facts import LONGEST_TEXT
from chpnet_stream.streaming.header_view import expected_counts, header_view, patient_view
from chpnet_stream.streaming.latencies import EDGES_MS, Latencies
from chpnet_stream.streaming.record import MOST_KINDS, ScanRecord, iso
from chpnet_stream.streaming.watch import _ready
from tests.gadgets.peers import conversation, greeting, raw
from tests.scan.building import header_xml
from tests.streaming.test_watch import watched

SUBJECT = (
    "<subjectInformation><patientName>Doe^Jane</patientName><patientID>PID-4711</patientID>"
    "<patientBirthdate>1970-01-01</patientBirthdate><patientGender>F</patientGender>"
    "</subjectInformation><studyInformation><accessionNumber>ACC-0815</accessionNumber>"
    "<referringPhysicianName>Roe^Richard</referringPhysicianName></studyInformation>"
)
PRIVATE = ("Doe", "PID-4711", "1970-01-01", "ACC-0815", "Roe")


def with_patient(xml: bytes) -> bytes:
    """A header that tells of a patient."""
    found = re.search(rb"<ismrmrdHeader[^>]*>", xml)
    assert found is not None
    return xml[: found.end()] + SUBJECT.encode() + xml[found.end() :]


def recorded(events: list[Any], *, show_patient: bool = False) -> dict[str, Any]:
    record = ScanRecord(events[0].live, show_patient=show_patient)
    for event in events:
        record.apply(event)
    told: dict[str, Any] = json.loads(json_text(record.told()))
    return told


def test_a_scan_in_numbers(small_scan: Path) -> None:
    events, answer = watched(conversation(small_scan), method="cg-sense")
    told = recorded(events)
    assert told["outcome"] == "done"
    assert told["images"] == len(answer.images) == 2
    assert told["expected"]["images"] == 2
    assert told["seen"] == {"slice": 2, "contrast": 1, "phase": 1, "repetition": 1, "set": 1}
    assert told["methods"] == {"cg-sense": 2}
    assert told["fallbacks"] == told["flagged"] == []
    assert told["latency_ms"]["count"] == 2
    assert sum(told["latency_ms"]["histogram"]["counts"]) == 2
    residuals = [float(i.meta["ChpnetDataConsistencyResidual"]) for i in answer.images]
    assert told["residual"]["largest"] == pytest.approx(max(residuals))
    assert told["residual"]["mean"] == pytest.approx(np.mean(residuals), abs=1e-5)
    assert told["options"]["method"] == "cg-sense"
    assert told["stages_ms"]["cg-sense"] > 0
    assert told["header"]["encoded_matrix"] == [128, 64, 1]
    assert told["header"]["image_matrix"] == [64, 64, 1]


def test_missing_lines_are_marked(small_scan: Path) -> None:
    with ScanFile(small_scan) as scan:
        lines = list(scan.acquisitions())
        image_lines = [a for a in lines if a.idx.slice == 1 and not int(a.flags) & 1 << 18]
        gone = image_lines[len(image_lines) // 4 : len(image_lines) // 2]
        kept = [a for a in lines if not any(a is g for g in gone)]
        data = greeting(scan.header.xml) + raw(*kept, Close())
    events, answer = watched(data, method="cg-sense")
    told = recorded(events)
    assert told["incomplete"] == 1
    (mark,) = [m for m in told["flagged"] if m["missing_lines"]]
    assert mark["slice"] == 1
    assert mark["missing_lines"] == int(
        next(i.meta["ChpnetMissingLines"] for i in answer.images if i.slice == 1)
    )


def with_empty_line(path: Path) -> bytes:
    """A whole scan of which one line of slice 1 was lost."""
    with ScanFile(path) as scan:
        lines = list(scan.acquisitions())
        calibration = 1 << 18 | 1 << 19 | 1 << 20  # and noise
        plain = [
            number
            for number, line in enumerate(lines)
            if line.idx.slice == 1 and not int(line.flags) & calibration
        ]
        lost = lines[plain[2]]
        lines[plain[2]] = type(lost)(lost.getHead(), 0 * lost.data)
        return greeting(scan.header.xml) + raw(*lines, Close())


def test_images_of_damaged_data_are_marked(small_scan: Path) -> None:
    events, answer = watched(with_empty_line(small_scan), method="cg-sense")
    told = recorded(events)
    assert told["marked"] == 1
    (flagged,) = told["flagged"]
    assert (flagged["slice"], flagged["fallback"], flagged["missing_lines"]) == (1, None, 0)
    assert flagged["mark"].startswith("measured lines that are empty: 1 (ky ")
    (image,) = (i for i in answer.images if i.slice == 1)
    assert flagged["mark"] == image.meta["ChpnetDataMark"]


def test_what_images_say_of_themselves_is_kept_in_bounds() -> None:
    """Those of an images gadget come with meta that their peer has written."""
    live = LiveScan("id", "scan", "images", 0.0)
    record = ScanRecord(live)
    for number in range(200):
        image = ismrmrd.Image.from_array(np.ones((2, 2), np.float32), transpose=False)
        words = dict.fromkeys(("ChpnetFallback", "ChpnetDataMark"), f"{number}" + 9000 * "x")
        image.meta = ismrmrd.Meta({"ChpnetMethod": f"method {number}", **words})
        record.apply(_ready(live, number, False, image))
    told = record.told()
    assert len(told["methods"]) == len(told["fallbacks"]) == MOST_KINDS + 1
    assert sum(told["methods"].values()) == sum(f["count"] for f in told["fallbacks"]) == 200
    assert max(len(f["first"]) for f in told["fallbacks"]) == LONGEST_TEXT
    assert len(json_text(told)) < 10**6


def test_nothing_of_the_patient_is_taken_unless_asked_for(small_scan: Path) -> None:
    with ScanFile(small_scan) as scan:
        xml = with_patient(scan.header.xml)
        data = greeting(xml) + raw(*scan.acquisitions(), Close())
    events, _ = watched(data, method="rss")
    text = json_text(recorded(events)) + repr(header_view(ScanHeader.from_xml(xml)))
    assert not [word for word in PRIVATE if word in text]
    shown = recorded(events, show_patient=True)
    assert shown["patient"] == {
        "name": "Doe^Jane",
        "id": "PID-4711",
        "birth date": "1970-01-01",
        "sex": "F",
    }
    assert "ACC-0815" not in json_text(shown)


def test_what_is_taken_of_a_header_is_short() -> None:
    plain = header_xml()
    xml = plain.replace(">test<", f">{100_000 * 'x'}<")
    assert xml != plain
    assert header_view(ScanHeader.from_xml(xml))["protocol"] == 500 * "x"


def test_a_header_without_a_patient_tells_of_none() -> None:
    assert patient_view(ScanHeader.from_xml(header_xml().encode())) == {}


def test_what_limits_promise() -> None:
    limits = {"slice": (0, 2, 1), "repetition": (0, 1, 0), "contrast": (0, 1, 0)}
    flat = ScanHeader.from_xml(header_xml(ny=64, limits=limits, acceleration=(4, 1)))
    found = expected_counts(flat)
    assert found["slice"] == 3
    assert found["images"] == 3 * 2 * 2
    assert found["lines"] == 16 * 12
    slab = ScanHeader.from_xml(header_xml(ny=16, nz=8, limits={"repetition": (0, 1, 0)}))
    found = expected_counts(slab)
    assert found["images"] == 8 * 2  # an image for every partition
    assert found["lines"] == 16 * 8 * 2


def test_percentiles_are_those_of_numpy_in_bounded_memory() -> None:
    random.seed(1)
    values = [random.lognormvariate(4, 1) for _ in range(5000)]
    latencies = Latencies()
    for value in values:
        latencies.add(value)
    told = latencies.told()
    for name, percent in (("p50", 50), ("p95", 95), ("p99", 99)):
        assert told[name] == pytest.approx(np.percentile(values, percent), rel=1e-3)
    assert told["max"] == pytest.approx(max(values), abs=0.01)
    assert told["first"] == pytest.approx(values[0], abs=0.01)
    counts = told["histogram"]["counts"]
    assert sum(counts) == 5000
    assert counts[0] == sum(v <= EDGES_MS[0] for v in values)
    assert counts[-1] == sum(v > EDGES_MS[-1] for v in values)


def test_old_latencies_make_room_but_are_counted() -> None:
    latencies = Latencies(most=300)
    for value in [*[1000.0] * 500, *[10.0] * 300]:
        latencies.add(value)
    told = latencies.told()
    assert told["p99"] == 10.0
    assert told["max"] == 1000.0
    assert told["count"] == 800
    latencies.settle()
    assert latencies.told()["p99"] == 10.0


def test_times_are_utc() -> None:
    assert iso(0.25) == "1970-01-01T00:00:00.250Z"


def test_a_clock_that_is_set_back_makes_no_scan_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    record = ScanRecord(LiveScan("a", "scan", "images", time.time()))
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() - 3600)
    assert 0 <= record.told()["seconds"] < 60
