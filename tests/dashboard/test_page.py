"""The live view in a real browser: what a person at the scanner sees and does."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.messages import Close
from tests.dashboard.browser import chromium, complaints, resize
from tests.dashboard.serving import Watched, wait_until
from tests.gadgets.peers import configuration, conversation, exchange, greeting, raw
from tests.scan.building import header_xml
from tests.streaming.test_record import PRIVATE, with_empty_line, with_patient

GREY = """
const canvas = document.querySelector(arguments[0] + ' canvas');
const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
const grey = Array.from(data.data.filter((_, i) => i % 4 === 0));
return {width: canvas.width, height: canvas.height, grey};
"""

TEXT = """
const found = Array.from(document.querySelectorAll(arguments[0]));
return found.map((element) => element.innerText).join(" ");
"""


class Page:
    """What a test asks of the page."""

    def __init__(self, driver: Any, watched: Watched) -> None:
        self.driver = driver
        self.watched = watched
        driver.get(watched.page.url)

    def text(self, selector: str) -> str:
        # In one go: the page may draw itself again between two questions.
        return str(self.driver.execute_script(TEXT, selector))

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def has(self, selector: str, words: str) -> None:
        """Wait until an element has some words."""
        wait_until(lambda: words in self.text(selector))

    def key(self, keys: str) -> None:
        self.one("body").send_keys(keys)

    def pixels(self, selector: str) -> np.ndarray:
        """Grey levels of a picture."""
        found = self.driver.execute_script(GREY, selector)
        return np.array(found["grey"], np.uint8).reshape(found["height"], found["width"])

    def painted(self, count: int) -> None:
        """Wait until so many pictures are drawn."""
        wait_until(lambda: len(self.all(".tile[data-picture]:not(.empty)")) >= count)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


@contextmanager
def served(browser: Any, **options: Any) -> Iterator[Watched]:
    """A server; at its end the browser must have had nothing to complain about."""
    complaints(browser)
    with Watched(**options) as made:
        yield made
        browser.get("about:blank")
        assert complaints(browser) == []  # no error, and nothing that the policy had to stop


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    with served(browser, method="cg-sense") as made:
        yield made


def test_a_scan_is_seen_while_it_runs_and_afterwards(
    browser: Any, watched: Watched, small_scan: Path
) -> None:
    page = Page(browser, watched)
    page.has("#link", "connected")
    page.has("#banner", "Waiting for a scan")
    data = conversation(small_scan)
    with watched.connect() as sock:
        sock.sendall(data[: len(data) * 6 // 10])
        page.has("#banner", "Running")
        page.has("#banner", "1 of 2 images")
        page.painted(1)
        assert "slice 1" in page.text(".tile.empty")  # its place is there already
        images = exchange(sock, data[len(data) * 6 // 10 :]).images
    page.has("#banner", "Done")
    page.has("#banner", "2 of 2 images")
    page.painted(2)
    assert page.text("#scan-list .title") == "simulated head t1"
    assert "p95" in page.text(".numbers")
    assert page.one(".plot").get_attribute("aria-label").startswith("Latencies: 2, median")
    assert page.one("#banner").get_attribute("class") == "done"
    # The picture is the image that was sent, in its window.
    sent = images[0].data[0, 0]
    centre, width = (float(page.one(f"#{n}").get_property("value")) for n in ("centre", "width"))
    expected = np.clip((sent - centre + width / 2) * 255 / width, 0, 255)
    shown = page.pixels('[data-tile="s0"]')
    assert np.abs(shown.astype(float) - expected).max() <= 1.5
    # And the letters are those of its directions.
    edges = [e.text for e in page.all('[data-tile="s0"] .edge')]
    assert edges == ["R", "L", "A", "P"]


def test_marks_are_on_the_images_that_need_them(
    browser: Any, watched: Watched, small_scan: Path
) -> None:
    with ScanFile(small_scan) as scan:
        lines = list(scan.acquisitions())
        first = [a for a in lines if a.idx.slice == 0 and not int(a.flags) & 1 << 18]
        gone = first[3:9]
        kept = [a for a in lines if not any(a is g for g in gone)]
        late = configuration(method="chpnet", deadline_ms=0.001)
        watched.send(greeting(scan.header.xml, late) + raw(*kept, Close()))
    page = Page(browser, watched)
    page.painted(2)
    page.has("#banner", "Done, look at the marks")
    page.has("#banner", "2 not as asked")
    page.has("#banner", "1 incomplete")
    page.has("#banner", "2 too late")
    bad, warn = page.one('[data-tile="s0"]'), page.one('[data-tile="s1"]')
    assert "bad" in bad.get_attribute("class").split()
    assert "warn" in warn.get_attribute("class").split()
    assert "missing" in bad.get_attribute("aria-label")
    assert "CG-SENSE: late" in warn.get_attribute("aria-label")
    assert "sent after" in warn.get_attribute("aria-label")
    assert "the network's image was not ready at the deadline" in page.text("#facts")
    assert "over" in page.one(".numbers div").get_attribute("class")


def test_images_of_damaged_data_are_marked(
    browser: Any, watched: Watched, small_scan: Path
) -> None:
    watched.send(with_empty_line(small_scan))
    page = Page(browser, watched)
    page.painted(2)
    page.has("#banner", "Done, look at the marks")
    page.has("#banner", "1 with doubtful data")
    page.has("#scan-list", "1 with doubtful data")
    page.has("#facts", "measured lines that are empty: 1")
    good, bad = page.one('[data-tile="s0"]'), page.one('[data-tile="s1"]')
    assert "warn" not in good.get_attribute("class").split()
    assert "warn" in bad.get_attribute("class").split()
    assert "check the data" in bad.get_attribute("aria-label")


def test_errors_are_told_in_words(browser: Any, watched: Watched, small_scan: Path) -> None:
    page = Page(browser, watched)
    watched.send(greeting(header_xml(trajectory="spiral").encode()) + raw(Close()))
    page.has("#banner .state", "Failed")
    page.has("#banner .error", "trajectory is 'spiral', expected 'cartesian'")
    page.has("#stage", "No image was made.")
    assert page.one("#announce").get_property("textContent") == "test: Failed"
    with watched.connect() as sock:
        sock.sendall(conversation(small_scan)[:-30_000])
        page.has("#banner", "Running")
    page.has("#banner .state", "Broken off: the peer is gone")
    # The newest scan is followed, until somebody chooses another one.
    page.all(".scan")[1].click()
    page.has("#banner .error", "spiral")
    assert not page.one("#follow").is_selected()
    watched.send(conversation(small_scan))
    page.has("#scan-list", "done, 2 images")
    assert "spiral" in page.text("#banner .error")
    page.key("f")
    page.has("#banner .state", "Done")


def test_markup_in_a_header_stays_text(browser: Any, watched: Watched) -> None:
    evil = "&lt;img src=x onerror=alert(1)&gt;&lt;b&gt;bold&lt;/b&gt;"
    xml = header_xml(trajectory="spiral").replace(">test<", f">{evil}<")
    page = Page(browser, watched)
    watched.send(greeting(xml.encode()) + raw(Close()))
    page.has("#banner .name", "<img src=x onerror=alert(1)><b>bold</b>")
    assert page.all("#banner img, #scan-list img, #facts img") == []


def test_no_patient_is_shown_unless_asked_for(browser: Any, small_scan: Path) -> None:
    with ScanFile(small_scan) as scan:
        data = greeting(with_patient(scan.header.xml)) + raw(*scan.acquisitions(), Close())
    for show in (False, True):
        with served(browser, method="rss", show_patient=show) as watched:
            watched.send(data)
            page = Page(browser, watched)
            page.painted(2)
            source = browser.page_source + watched.get("/api/scans")[2].decode()
            source += watched.get("/metrics")[2].decode() + page.text("body")
            assert [word in source for word in PRIVATE] == [show, show, show, False, False]


def test_window_zoom_and_pan_by_mouse_and_by_numbers(
    browser: Any, watched: Watched, small_scan: Path
) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    watched.send(conversation(small_scan))
    page = Page(browser, watched)
    page.painted(2)
    before = page.pixels('[data-tile="s0"]')
    box = page.one("#width")
    value = float(box.get_property("value"))
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(str(value / 4), Keys.ENTER)
    page.one("#centre").send_keys(Keys.CONTROL, "a")
    page.one("#centre").send_keys(str(value / 8), Keys.ENTER)
    wait_until(lambda: page.pixels('[data-tile="s0"]').mean() > before.mean() + 20)
    page.one("#auto").click()
    wait_until(lambda: (page.pixels('[data-tile="s0"]') == before).all())
    tile = page.one('[data-tile="s0"] .image')
    ActionChains(browser).click_and_hold(tile).move_by_offset(-90, 0).release().perform()
    wait_until(lambda: float(page.one("#width").get_property("value")) < 0.8 * value)
    assert page.pixels('[data-tile="s0"]').std() > before.std()
    # The keys zoom and pan; dragging with Shift moves.
    page.key("2")
    page.key("+++")
    page.has("#fit", "338%")
    canvas = page.one(".tile canvas")
    was = canvas.get_attribute("style")
    image = page.one(".tile .image")
    chain = ActionChains(browser).key_down(Keys.SHIFT).click_and_hold(image)
    chain.move_by_offset(40, 30).release().key_up(Keys.SHIFT).perform()
    wait_until(lambda: canvas.get_attribute("style") != was)
    assert "scale(3.375)" in canvas.get_attribute("style")
    page.key("0")
    page.has("#fit", "100%")


def test_network_beside_baseline_beside_difference(
    browser: Any, watched: Watched, small_scan: Path
) -> None:
    page = Page(browser, watched)
    watched.send(conversation(small_scan))
    page.painted(1)
    page.key("3")
    page.has("#stage", "no conventional series beside")
    both = configuration(method="chpnet", send_baseline="true")
    images = watched.send(conversation(small_scan, both)).images
    page.has("#banner", "Done")
    page.painted(3)
    assert "network" in page.text('[data-tile="network"]')
    assert "CG-SENSE" in page.text('[data-tile="baseline"]')
    number = int(
        page.one('[data-tile="network"]').get_attribute("aria-label").split("slice ")[1][0]
    )
    network, baseline = (i.data[0, 0] for i in images if i.slice == number)
    width = float(page.one("#width").get_property("value"))
    expected = np.clip(np.abs(network - baseline) * 255 * 5 / width, 0, 255)
    wait_until(lambda: page.pixels('[data-tile="difference"]').shape == expected.shape)
    assert np.abs(page.pixels('[data-tile="difference"]') - expected).max() <= 2
    assert expected.max() > 10


def test_a_cine_over_repetitions_is_played_and_stepped(
    browser: Any, watched: Watched, small_scan: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    with ScanFile(small_scan) as scan:
        lines = list(scan.acquisitions())
        again = []
        for repetition in range(3):
            for line in lines:
                copy = type(line)(line.getHead(), line.data * (1 + repetition))
                copy.idx.repetition = repetition
                copy.flags = int(line.flags) & ~(1 << 24)  # not the last of the scan
                again.append(copy)
        data = [greeting(scan.header.xml), *(raw(a) for a in again), raw(Close())]
        watched.send(data)
    page = Page(browser, watched)
    page.painted(2)
    page.key("2")
    page.has("#frame-out", "3/3")
    page.has("#frame-name", "repetition")
    page.has(".tile figcaption", "repetition 2")
    bright = page.pixels('[data-tile="one"]').mean()
    page.key(Keys.ARROW_LEFT)
    page.key(Keys.ARROW_LEFT)
    page.has("#frame-out", "1/3")
    wait_until(lambda: page.pixels('[data-tile="one"]').mean() < 0.8 * bright)
    assert not page.one("#live").is_selected()
    page.key(" ")
    page.has("#play", "Pause")
    seen: set[str] = set()
    wait_until(lambda: seen.add(page.text("#frame-out")) or len(seen) == 3)  # type: ignore[func-returns-value]
    page.key(" ")
    page.has("#play", "Play")
    page.key(Keys.ARROW_DOWN)
    page.has("#slice-out", "1")
    page.key("l")
    page.has("#frame-out", "3/3")


def test_a_server_that_is_gone_is_told(browser: Any, small_scan: Path) -> None:
    with Watched(method="rss") as watched:
        page = Page(browser, watched)
        page.has("#link", "connected")
    page.has("#link", "no connection to the server")


def test_a_page_that_outlives_its_server_shows_the_next_ones_pictures(
    browser: Any, small_scan: Path
) -> None:
    """Not the pixels that it has of the first server's pictures, maybe of another patient."""
    with Watched(method="rss") as first:
        first.send(conversation(small_scan))
        page = Page(browser, first)
        page.painted(2)
        before = page.pixels('[data-tile="s0"]').astype(float)
        port = first.page.address[1]
    page.has("#link", "no connection to the server")
    assert np.abs(before - before[::-1]).max() > 50
    with Watched(method="rss", port=port, flip_rows="true") as second:
        page.has("#link", "connected")
        second.send(conversation(small_scan))
        page.has("#banner", "Done")
        page.painted(2)
        wait_until(lambda: np.abs(page.pixels('[data-tile="s0"]') - before[::-1]).max() <= 2)


def test_a_token_opens_the_page_and_is_not_left_in_its_address(
    browser: Any, small_scan: Path
) -> None:
    token = "a-token-for-this-page"  # noqa: S105
    with served(browser, method="rss", token=token) as watched:
        watched.send(conversation(small_scan))
        page = Page(browser, watched)
        page.has("body", "401")
        complaints(browser)
        browser.get(f"{watched.page.url}?token={token}")
        page.has("#link", "connected")
        page.painted(2)
        assert browser.current_url == watched.page.url
        assert browser.execute_script("return document.cookie") == ""


@pytest.mark.parametrize("size", [(1280, 800), (400, 860)])
def test_nothing_is_cut_off(
    browser: Any, watched: Watched, small_scan: Path, size: tuple[int, int]
) -> None:
    watched.send(conversation(small_scan))
    resize(browser, *size)
    try:
        page = Page(browser, watched)
        page.painted(2)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= size[0]
        for tile in page.all(".tile"):
            box = tile.rect
            assert box["width"] > 90
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= size[0]
        if size[0] > 1000:
            height = browser.execute_script("return document.documentElement.scrollHeight")
            assert height <= size[1]
    finally:
        resize(browser, 1280, 800)


def test_everything_can_be_reached_by_keyboard(
    browser: Any, watched: Watched, small_scan: Path
) -> None:
    from selenium.webdriver.common.keys import Keys

    watched.send(conversation(small_scan))
    page = Page(browser, watched)
    page.painted(2)
    reached: set[str] = set()
    for _ in range(30):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        names = [active.get_attribute("id"), *active.get_attribute("class").split()]
        reached |= set(names)
    wanted = {"follow", "scan", "centre", "width", "auto", "zoom-in", "move", "stage", "play"}
    assert wanted <= reached
    page.key("?")
    page.has("#help", "montage, cine, compare")
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait_until(lambda: not page.one("#help").is_displayed())
