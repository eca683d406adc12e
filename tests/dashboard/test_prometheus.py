"""Metrics as Prometheus reads them."""

import re
from pathlib import Path
from typing import Any, ClassVar

import ismrmrd
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from chpnet_stream.dashboard.prometheus import ScanMetrics
from chpnet_stream.methods import METHODS, REASONS
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.messages import Close
from chpnet_stream.streaming.events import LiveScan, ScanEnded, ScanOpened
from tests.dashboard.serving import Watched
from tests.gadgets.peers import configuration, conversation, greeting, raw
from tests.scan.building import header_xml
from tests.streaming.test_record import with_empty_line

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dashboard.md"


def samples(watched: Watched) -> dict[str, float]:
    status, headers, body = watched.get("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    return {
        sample.name + "".join(f"|{v}" for v in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_scans_images_reasons_and_times_are_counted(small_scan: Path) -> None:
    with Watched() as watched:
        before = samples(watched)
        assert before["chpnet_scans_total|done"] == 0
        assert before["chpnet_open_connections"] == 0
        watched.send(conversation(small_scan, configuration(send_baseline="true")))
        late = configuration(deadline_ms=0.001)
        watched.send(conversation(small_scan, late))
        watched.send(greeting(header_xml(trajectory="spiral").encode()) + raw(Close()))
        with watched.connect() as sock, ScanFile(small_scan) as scan:
            first = list(scan.acquisitions())[:5]
            sock.sendall(greeting(scan.header.xml) + raw(*first))
            found = samples(watched)
            while found["chpnet_running_scans"] != 1 or found["chpnet_queue_bytes"] < 0:
                found = samples(watched)
            assert found["chpnet_open_connections"] == 1
        watched.settled()
        found = samples(watched)
        stored = watched.store.picture_bytes
    assert found["chpnet_scans_total|done"] == 2
    assert found["chpnet_scans_total|failed"] == 1
    assert found["chpnet_scans_total|peer gone"] == 1
    assert found["chpnet_images_total|chpnet"] == 2
    assert found["chpnet_images_total|cg-sense"] == 2
    assert found["chpnet_baseline_images_total"] == 2
    assert found["chpnet_fallbacks_total|late"] == 2
    assert found["chpnet_deadline_misses_total"] == 2
    assert found["chpnet_errors_total|UnsupportedScanError"] == 1
    assert found["chpnet_latency_seconds_count"] == 4
    assert found["chpnet_latency_seconds_bucket|+Inf"] == 4
    assert 0 < found["chpnet_latency_seconds_sum"] < 60
    assert found["chpnet_stage_seconds_total|cg-sense"] > 0
    assert found["chpnet_open_connections"] == found["chpnet_running_scans"] == 0
    assert found["chpnet_queue_bytes"] == 0
    assert found["chpnet_acquisitions_total"] > 100
    assert found["chpnet_dashboard_picture_bytes"] == stored > 0
    assert found["process_resident_memory_bytes"] > 1e7


def test_images_of_damaged_data_are_counted(small_scan: Path) -> None:
    with Watched(method="cg-sense") as watched:
        watched.send(with_empty_line(small_scan))
        found = samples(watched)
    assert found["chpnet_images_total|cg-sense"] == 2
    assert found["chpnet_marked_images_total"] == 1


class Asked(LiveScan):
    """A scan that has the metrics read whenever somebody looks at what has arrived."""

    metrics_page: ScanMetrics | None = None

    def __getattribute__(self, name: str) -> Any:
        page, told = object.__getattribute__(self, "metrics_page"), type(self).told
        if name == "arrived" and page is not None:
            object.__setattr__(self, "metrics_page", None)  # reading them looks, too
            told.append(acquisitions(page))
            object.__setattr__(self, "metrics_page", page)
        return object.__getattribute__(self, name)

    told: ClassVar[list[float]] = []


def acquisitions(metrics: ScanMetrics) -> float:
    for family in text_string_to_metric_families(metrics.page()[0].decode()):
        for sample in family.samples:
            if sample.name == "chpnet_acquisitions_total":
                return float(sample.value)
    raise AssertionError("no such metric")


def test_no_counter_begins_anew_when_a_scan_ends() -> None:
    """Whoever reads in the middle of it sees no fewer acquisitions than before."""
    metrics = ScanMetrics()
    live = Asked("id", "scan", "acquisitions", 0.0)
    live.arrived["acquisitions"] = 500
    metrics.observe(ScanOpened(live))
    assert acquisitions(metrics) == 500
    live.metrics_page = metrics
    metrics.observe(ScanEnded(live, "done", "", "", "", 0.0, 1.0))
    assert Asked.told == [500]
    assert acquisitions(metrics) == 500


def test_alarms_see_the_first_of_every_kind() -> None:
    """`increase` needs a value before it."""
    page = ScanMetrics().page()[0].decode()
    for reason in (*REASONS, "other"):
        assert f'chpnet_fallbacks_total{{reason="{reason}"}} 0.0' in page
    for method in METHODS:
        assert f'chpnet_images_total{{method="{method}"}} 0.0' in page


def test_openmetrics_on_request() -> None:
    with Watched() as watched:
        _, headers, body = watched.get("/metrics", accept="application/openmetrics-text")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.rstrip().endswith(b"# EOF")


def test_every_metric_is_documented() -> None:
    with Watched() as watched:
        _, _, body = watched.get("/metrics")
    families = re.findall(r"^# HELP (chpnet_\w+)", body.decode(), re.MULTILINE)
    names = {n for n in families if not n.endswith("_created")}
    assert len(names) > 12
    if not PAGE.is_file():
        pytest.skip("docs are not part of this installation")
    text = PAGE.read_text(encoding="utf-8")
    assert not [n for n in sorted(names) if f"`{n}" not in text]


def test_words_of_a_peer_are_no_labels() -> None:
    """Each label is kept as long as the process is: a peer must not make them."""

    def image(said: str) -> ismrmrd.Image:
        made = ismrmrd.Image.from_array(np.ones((1, 1, 8, 8), np.float32), transpose=False)
        made.meta = ismrmrd.Meta({"ChpnetFallback": said, "ChpnetMethod": said})
        return made

    with Watched("images") as watched:
        sent = [image(f"DOE^JOHN {number}: x") for number in range(3)]
        damaged = image("")
        damaged.data[...] = np.nan
        watched.send(greeting(header_xml().encode()) + raw(*sent, damaged, Close()))
        watched.settled()
        found = samples(watched)
    fallbacks = {k: n for k, n in found.items() if k.startswith("chpnet_fallbacks_total")}
    labels = {name: n for name, n in fallbacks.items() if n}
    assert labels == {
        "chpnet_fallbacks_total|other": 3,
        "chpnet_fallbacks_total|the image that came has NaN or infinite pixels": 1,
    }
    assert not any("DOE" in name for name in found)
