"""What the live view costs: latencies with and without it; writes docs/tables/dashboard.md.

Two servers (`chpnet-stream serve`) run side by side, one of them with --dashboard. The same
simulated scan is sent to them in turns, paced by its time stamps: to the one without, to the one
with the page that nobody looks at, and to it with pages open. An open page is a process that does
what the browser does: it listens to the events and fetches every new picture.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from report import TABLES, machine, markdown_table, write

from chpnet_stream.client.exchange import Exchange, connect
from chpnet_stream.client.pacing import Pacer
from chpnet_stream.client.source import Source
from chpnet_stream.metrics import percentiles
from chpnet_stream.simulation.options import SimulationOptions
from chpnet_stream.simulation.scan import simulate_scan

INTRODUCTION = """# What the live view costs

Written by `benchmarks/dashboard.py`. A simulated scan ({slices} slices of {matrix} x {matrix},
8 coils, R = 4, {repetitions} repetitions) is sent in real time to two servers in turns, {rounds}
times each. Latency is that of the client: last line of a slice sent to its image received. An open
page is a process on the same machine that listens to the events and fetches every picture as it
comes; a browser on another machine asks for no more.
"""


@dataclass
class Arm:
    """One way to be watched, and what was measured."""

    name: str
    latencies_ms: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    fetched: int = 0


class Server:
    """A process of `chpnet-stream serve`."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "chpnet_stream", "serve", "--port", "0", "--threads", "1"]
        self.process = subprocess.Popen(  # noqa: S603 - ourselves
            [*command, *words], stderr=subprocess.PIPE, text=True
        )
        self.view = ""
        assert self.process.stderr is not None  # noqa: S101 - asked for above
        for line in self.process.stderr:
            if found := re.search(r"live view at (\S+),", line):
                self.view = found[1]
            if found := re.search(r"listening on 127\.0\.0\.1 port (\d+)", line):
                self.port = int(found[1])
                break
        else:
            raise SystemExit("the server ended before it listened")
        self.reader = threading.Thread(target=self.process.stderr.read, daemon=True)
        self.reader.start()

    def cpu_s(self) -> float:
        """Processor time that it has used, in seconds."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)
        self.reader.join(30)
        self.process.stderr.close()  # type: ignore[union-attr]


@contextmanager
def pages(count: int, view: str) -> Iterator[list[int]]:
    """So many pages open; afterwards the list has the pictures that each has fetched."""
    fetched: list[int] = []
    words = [sys.executable, __file__, "--page", view]
    opened = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
        for _ in range(count)
    ]
    for page in opened:
        assert page.stdout is not None  # noqa: S101 - asked for above
        page.stdout.readline()  # it has everything that was there before
    try:
        yield fetched
    finally:
        for page in opened:
            out, _ = page.communicate("end\n", timeout=60)
            fetched.append(int(out.split()[-1]))


def look(view: str) -> None:
    """Be a page: listen, fetch every picture, until a line comes on standard input."""
    address = urlsplit(view).netloc
    with (
        closing(http.client.HTTPConnection(address, timeout=60)) as events,
        closing(http.client.HTTPConnection(address, timeout=60)) as pictures,
    ):
        events.request("GET", "/api/events")
        follow(events.getresponse(), pictures)


def follow(answer: http.client.HTTPResponse, pictures: http.client.HTTPConnection) -> None:
    """Fetch what the events tell of."""
    seen: set[int] = set()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.readline(), ended.set()), daemon=True).start()
    states = 0
    while not ended.is_set():
        name = answer.readline().decode().removeprefix("event: ").strip()
        value = json.loads(answer.readline().decode().removeprefix("data: "))
        answer.readline()
        states += name == "state"
        if name == "pictures":
            for number in sorted({picture["number"] for picture in value} - seen):
                pictures.request("GET", f"/api/pictures/{number}")
                pictures.getresponse().read()
                seen.add(number)
        if name in ("scans", "pictures", "state") and states == 2:
            states += 1
            before = len(seen)
            sys.stdout.write("ready\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(seen) - before}\n")


def send(path: Path, port: int, pace: float) -> list[float]:
    """Send the scan; latencies in milliseconds."""
    with Source(path) as source, closing(connect("127.0.0.1", port, 10)) as sock:
        report = Exchange(sock, source, pacer=Pacer(pace)).run()
    if report.error is not None:
        raise report.error
    return report.latencies_ms


def measure(options: argparse.Namespace, path: Path) -> list[Arm]:
    """Send to the servers in turns."""
    arms = [
        Arm("without --dashboard"),
        Arm("--dashboard, no page open"),
        Arm(f"--dashboard, {options.pages} pages open"),
    ]
    with ExitStack() as stack:
        plain, watched = Server(), Server("--dashboard", "0")
        stack.callback(plain.close)
        stack.callback(watched.close)
        for server in (plain, watched):
            send(path, server.port, 100.0)  # warm
        for _ in range(options.rounds):
            for arm, server, count in zip(
                arms, (plain, watched, watched), (0, 0, options.pages), strict=True
            ):
                with pages(count, watched.view) as fetched:
                    before = server.cpu_s()
                    arm.latencies_ms += send(path, server.port, options.pace)
                    time.sleep(0.5)  # for the pages
                    arm.cpu_s += server.cpu_s() - before
                arm.fetched += sum(fetched)
    return arms


def table(arms: list[Arm], rounds: int) -> str:
    """The Markdown table."""
    rows = []
    for arm in arms:
        found = percentiles(arm.latencies_ms)
        rows.append(
            {
                "": arm.name,
                "images": len(arm.latencies_ms),
                "p50 ms": found["p50"],
                "p95 ms": found["p95"],
                "p99 ms": found["p99"],
                "max ms": found["max"],
                "CPU s a scan": arm.cpu_s / rounds,
                "pictures fetched": arm.fetched,
            }
        )
    digits = {"images": 0, "p50 ms": 1, "p95 ms": 1, "p99 ms": 1, "max ms": 1}
    return markdown_table(rows, digits | {"CPU s a scan": 2, "pictures fetched": 0})


def main() -> None:
    """Measures and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6, help="scans sent to each")
    parser.add_argument("--pages", type=int, default=2, help="pages open")
    parser.add_argument("--matrix", type=int, default=192)
    parser.add_argument("--slices", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--pace", type=float, default=1.0, help="times real time")
    parser.add_argument("--out", type=Path, default=TABLES / "dashboard.md")
    parser.add_argument("--page", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.page:
        look(options.page)
        return
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.h5"
        scan = SimulationOptions(
            matrix=(options.matrix, options.matrix),
            slices=options.slices,
            repetitions=options.repetitions,
            coils=8,
            acceleration=4,
        )
        simulate_scan(path, scan)
        arms = measure(options, path)
    loads.append(os.getloadavg()[0])
    busy = (
        f"Load average {loads[0]:.1f} before and {loads[1]:.1f} after (with the benchmark itself): "
        + (
            "other work ran on the machine, so single values scatter; compare the rows with one "
            "another."
            if loads[0] > 1
            else "nothing else ran on the machine."
        )
    )
    text = [INTRODUCTION.format(**vars(options)), table(arms, options.rounds), "", busy, ""]
    write(options.out, "\n".join([*text, machine(1)]))


if __name__ == "__main__":
    main()
