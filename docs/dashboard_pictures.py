"""Takes the pictures of docs/dashboard.md: a simulated scan, sent to `serve`, in a real Chromium.

`python docs/dashboard_pictures.py` needs the extra `test`, and chromium with chromium-driver.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from tests.dashboard.browser import chromium  # noqa: E402

PICTURES = CHECKOUT / "docs" / "pictures"
PROGRAM = [sys.executable, "-m", "chpnet_stream"]
SCAN = ["--matrix", "192", "--slices", "12", "--coils", "8", "--repetitions", "4"]


def main() -> None:
    """Simulates, serves, sends and takes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder of the pictures")
    parser.add_argument("--deadline-ms", default="150", help="deadline, so that there are marks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan.h5"
        simulate = [*PROGRAM, "simulate", str(scan), *SCAN]
        subprocess.run(simulate, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - ourselves
        words = ["serve", "--port", "0", "--dashboard", "0", "--threads", "1"]
        words += ["--property", "send_baseline=true"]
        words += ["--property", f"deadline_ms={options.deadline_ms}"]
        server = subprocess.Popen(  # noqa: S603 - ourselves
            [*PROGRAM, *words], stderr=subprocess.PIPE, text=True
        )
        try:
            view, port = addresses(server)
            with chromium() as driver:
                take(driver, view, port, scan, options.out)
        finally:
            server.terminate()
            server.communicate(timeout=60)


def addresses(server: subprocess.Popen[str]) -> tuple[str, str]:
    """Where the page is, and the port of the server."""
    view = ""
    assert server.stderr is not None  # noqa: S101 - asked for above
    for line in server.stderr:
        if found := re.search(r"live view at (\S+),", line):
            view = found[1]
        if found := re.search(r"listening on \S+ port (\d+)", line):
            return view, found[1]
    raise SystemExit("the server ended before it listened")


def take(driver: Any, view: str, port: str, scan: Path, out: Path) -> None:
    """A picture while the scan runs, and one of the comparison."""
    from selenium.webdriver.common.keys import Keys

    driver.get(view)
    pace = ["--pace", "realtime"]
    client = subprocess.Popen(  # noqa: S603 - ourselves
        [*PROGRAM, "send", str(scan), "--port", port, *pace], stdout=subprocess.DEVNULL
    )
    while "18 of 48" not in driver.find_element("id", "banner").text:
        if client.poll() is not None:
            raise SystemExit("the scan ended too early")
        time.sleep(0.1)
    time.sleep(0.5)
    driver.save_screenshot(str(out / "dashboard-running.png"))
    client.wait()
    time.sleep(1)
    body = driver.find_element("tag name", "body")
    body.send_keys("3")
    time.sleep(1)
    for _ in range(6):  # a slice that is the network's
        tile = driver.find_element("css selector", "[data-tile=network]")
        if "warn" not in str(tile.get_dom_attribute("class")):
            break
        body.send_keys(Keys.ARROW_UP)
        time.sleep(1)
    driver.save_screenshot(str(out / "dashboard-compare.png"))


if __name__ == "__main__":
    main()
