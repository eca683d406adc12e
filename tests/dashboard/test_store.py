"""What the page keeps: the newest, in bounded memory."""

from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np

from chpnet_stream.dashboard.store import MEGABYTE, ScanStore
from chpnet_stream.mrd.wire.messages import Close
from chpnet_stream.streaming.events import (
    DeadlineMissed,
    ImageSent,
    LiveScan,
    ScanEnded,
    ScanOpened,
)
from chpnet_stream.streaming.watch import _ready
from tests.dashboard.serving import Watched
from tests.gadgets.peers import configuration, conversation, greeting, raw
from tests.scan.building import header_xml


def live(number: int) -> LiveScan:
    return LiveScan(f"id{number}", f"scan {number}", "acquisitions", 0.0)


def show(store: ScanStore, scan: LiveScan, number: int, side: int = 8) -> None:
    image: Any = ismrmrd.Image.from_array(np.ones((side, side), np.float32), transpose=False)
    image.repetition = number
    store.observe(_ready(scan, number, False, image))


def end(store: ScanStore, scan: LiveScan) -> None:
    store.observe(ScanEnded(scan, "done", "", "", "", 0.0, 1.0))


def test_pictures_stay_within_their_memory_the_oldest_go_first() -> None:
    store = ScanStore(1)
    scan = live(1)
    store.observe(ScanOpened(scan))
    for number in range(1, 21):
        show(store, scan, number, side=256)  # 131 kB each
    assert store.picture_bytes <= MEGABYTE
    _, facts = store.pictures(0)
    assert [f["repetition"] for f in facts] == list(range(14, 21))
    assert store.state()["oldest_picture"] == facts[0]["number"]
    assert store.picture(facts[0]["number"] - 1) is None
    assert store.scans({})[0]["images"] == 20  # counted all the same


def test_a_picture_larger_than_the_memory_is_shown_alone() -> None:
    store = ScanStore(1)
    scan = live(1)
    store.observe(ScanOpened(scan))
    show(store, scan, 1)
    show(store, scan, 2, side=1024)
    _, facts = store.pictures(0)
    assert [f["repetition"] for f in facts] == [2]


def test_old_scans_are_forgotten_with_their_pictures_running_ones_never() -> None:
    store = ScanStore(64, most_scans=3)
    running = live(0)
    store.observe(ScanOpened(running))
    for number in range(1, 8):
        scan = live(number)
        store.observe(ScanOpened(scan))
        show(store, scan, number)
        end(store, scan)
    order = store.state()["order"]
    assert order[0] == "id7"
    assert "id0" in order
    assert len(order) <= 4
    _, facts = store.pictures(0)
    assert {f["scan"] for f in facts} == set(order) - {"id0"}
    assert store.picture_bytes == sum(2 * f["width"] * f["height"] for f in facts)


def test_only_what_is_new_is_told() -> None:
    store = ScanStore()
    scan = live(1)
    store.observe(ScanOpened(scan))
    seen: dict[str, Any] = {}
    assert len(store.scans(seen)) == 1
    assert store.scans(seen) == []
    since, facts = store.pictures(0)
    assert facts == []
    show(store, scan, 1)
    since, facts = store.pictures(since)
    assert [f["latency_ms"] for f in facts] == [None]
    assert store.pictures(since)[1] == []
    store.observe(ImageSent(scan, 1, False, 12.5, {}))
    since, facts = store.pictures(since)
    assert [f["latency_ms"] for f in facts] == [12.5]
    scan.arrived["acquisitions"] += 1  # without an event
    assert len(store.scans(seen)) == 1


def test_pictures_of_two_servers_have_other_numbers() -> None:
    """A page that stays open when the server starts again has the pixels of the first ones."""
    seen: set[int] = set()
    for _ in range(3):
        store, scan = ScanStore(), live(1)
        store.observe(ScanOpened(scan))
        for number in range(1, 5):
            show(store, scan, number)
        seen |= {facts["number"] for facts in store.pictures(0)[1]}
    assert len(seen) == 12
    assert max(seen) < 2**53


def test_images_that_were_sent_too_late_are_counted_for_the_whole_server() -> None:
    store = ScanStore()
    for number in range(2):
        scan = live(number)
        store.observe(ScanOpened(scan))
        store.observe(DeadlineMissed(scan, 1, 30.0, 20.0))
    assert store.state()["misses"] == 2


def test_a_failed_scan_is_told_in_words(small_scan: Path) -> None:
    with Watched(method="cg-sense") as watched:
        watched.send(greeting(header_xml(trajectory="spiral").encode()) + raw(Close()))
        watched.send(conversation(small_scan))
        told = watched.told()
    good, bad = told["scans"]
    assert good["outcome"] == "done"
    assert bad["outcome"] == "failed"
    assert "spiral" in bad["error"]
    assert told["state"]["failed"] == 1
    assert told["state"]["images"] == 2
    assert good["name"] != bad["name"]


def test_the_baseline_beside_is_no_image_of_its_own(small_scan: Path) -> None:
    with Watched() as watched:
        watched.send(conversation(small_scan, configuration(send_baseline="true")))
        (scan,) = watched.told()["scans"]
        _, facts = watched.store.pictures(0)
    assert (scan["images"], scan["baseline_images"]) == (2, 2)
    assert [(f["image"], f["beside"], f["method"]) for f in facts] == [
        (1, False, "chpnet"),
        (1, True, "cg-sense"),
        (2, False, "chpnet"),
        (2, True, "cg-sense"),
    ]
    assert scan["model"]["name"] == "chpnet-rt"
    assert scan["latency_ms"]["count"] == 2
