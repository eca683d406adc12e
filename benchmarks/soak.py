"""Hours of paced scans through `serve` and `gadget`: docs/tables/soak.md.

Servers are started as a person would; clients send simulated scans by their time stamps, one or
several at a time, and compare every image, pixels and header, with that of the first scan. Memory,
file descriptors, threads and processor time of the servers are read once a second. What must hold
is checked at the end, and the exit code tells it: all images there and equal, memory flat (slope
after the warm-up, over the whole time, below 1 %), descriptors and threads flat, latency and
processor time for each image not drifting. What else the machine did meanwhile is told beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import ismrmrd
import numpy as np
from report import TABLES, machine, markdown_table, write

from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.wire.byte_stream import SocketStream
from chpnet_stream.mrd.wire.messages import Close, Config, ErrorText, Header, Text
from chpnet_stream.mrd.wire.reader import MessageReader
from chpnet_stream.mrd.wire.writer import message_parts
from chpnet_stream.simulation.options import SimulationOptions
from chpnet_stream.simulation.scan import simulate_scan

DOORS = ("serve", "gadget")
MOST_GROWTH = 0.01
"""Memory that may be added after the warm-up, over the whole time, as a share."""

MOST_DRIFT = 1.5
"""Latency p99 of the last third over that of the first (the machine does other things too)."""

WARM_UP = 0.15
"""Share of the time that is not judged: caches fill, thread pools start."""

MOST_WORK_DRIFT = 1.1
"""Processor time for each image, last third over first: other work on the machine hardly adds."""

TICK_S = 2.5e-3


@dataclass
class Recording:
    """A scan as bytes: pieces with the time at which each is sent, in seconds."""

    start: bytes
    pieces: list[tuple[float, bytes]]
    acquisitions: int
    slices: int
    last_lines: list[int]
    """Pieces that complete a slice, in order."""


class Reading(NamedTuple):
    """One look at a server."""

    at: float
    memory: int
    files: int
    threads: int
    processor_s: float
    others: float
    """Processors that everything on the machine but the servers and this program kept busy."""


@dataclass
class Door:
    """One server and what came out of it."""

    name: str
    process: subprocess.Popen[str]
    port: int = 0
    expected: list[bytes] | None = None
    scans: int = 0
    images: int = 0
    acquisitions: int = 0
    faults: list[str] = field(default_factory=list)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    own: list[tuple[float, float]] = field(default_factory=list)
    """When an image arrived, and the latency in ms that its meta tell (the server's own clock)."""
    readings: list[Reading] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


def record(path: Path, method: str) -> Recording:
    """The bytes of a scan, line by line."""
    properties = f'<property name="method" value="{method}"/>'
    config = f'<?xml version="1.0"?>\n<configuration>{properties}</configuration>'.encode()
    with ScanFile(path) as scan:
        start = _raw(Config(config), Header(scan.header.xml))
        pieces, last, first_stamp = [], [], None
        for item in scan.items():
            if isinstance(item, ismrmrd.Acquisition):
                stamp = int(item.acquisition_time_stamp)
                first_stamp = stamp if first_stamp is None else first_stamp
                at = TICK_S * (stamp - first_stamp)
                if item.isFlagSet(ismrmrd.ACQ_LAST_IN_SLICE):
                    last.append(len(pieces))
            pieces.append((max(at, pieces[-1][0] if pieces else 0.0), _raw(item)))
    acquisitions = len(pieces)
    pieces.append((pieces[-1][0], _raw(Close())))
    return Recording(start, pieces, acquisitions, len(last), last)


def _raw(*items: Any) -> bytes:
    return b"".join(bytes(part) for item in items for part in message_parts(item))


def fingerprint(image: Any) -> bytes:
    """Of an image's header and pixels; its meta tell the latency, which differs."""
    head = image.getHead()
    head.attribute_string_len = 0
    return hashlib.sha256(bytes(head) + np.ascontiguousarray(image.data).tobytes()).digest()


def start(door: str, options: argparse.Namespace) -> Door:
    """Start a server; waits until it listens."""
    words = [sys.executable, "-m", "chpnet_stream", door, "--port", "0", "--threads", "1"]
    words += ["--workers", "1"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, errors="replace")  # noqa: S603
    made = Door(door, process)
    assert process.stderr is not None  # noqa: S101
    for line in process.stderr:
        made.log.append(line)
        if found := re.search(r"listening on \S+ port (\d+)", line):
            made.port = int(found.group(1))
            break
    else:
        raise RuntimeError(f"{door} did not start:\n{''.join(made.log)}")
    threading.Thread(target=_read_log, args=(made,), daemon=True).start()
    return made


def _read_log(door: Door) -> None:
    for line in door.process.stderr or ():
        if " ERROR " in line or " WARNING " in line:
            door.log.append(line)
            del door.log[:-50]


def send(door: Door, scan: Recording, pace: float, lock: threading.Lock) -> None:
    """One scan; what is wrong with it is noted with the door."""
    sent_at: list[float] = []
    prints: list[bytes] = []
    arrived: list[float] = []
    own: list[float] = []
    faults: list[str] = []
    sock = socket.create_connection(("127.0.0.1", door.port), timeout=300)

    def feed() -> None:
        try:
            sock.sendall(scan.start)
            begin = time.monotonic()
            waiting = set(scan.last_lines)
            for number, (at, piece) in enumerate(scan.pieces):
                wait = begin + at / pace - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                sock.sendall(piece)
                if number in waiting:
                    sent_at.append(time.monotonic())
        except OSError as error:
            faults.append(f"sending failed: {error}")

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    closed = False
    try:
        reader = MessageReader(SocketStream(sock))
        while (message := reader.read()) is not None:
            if isinstance(message, Close):
                closed = True
                break
            if isinstance(message, ismrmrd.Image):
                arrived.append(time.monotonic())
                own.append(float(message.meta["ChpnetLatencyMs"]))
                prints.append(fingerprint(message))
            elif isinstance(message, ErrorText | Text):
                faults.append(f"told: {message.text}")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is noted
        faults.append(f"{type(error).__name__}: {error}")
    feeder.join(60)
    sock.close()
    with lock:
        door.scans += 1
        door.images += len(prints)
        door.acquisitions += scan.acquisitions
        if not closed:
            faults.append("no CLOSE")
        if len(prints) != scan.slices:
            faults.append(f"{len(prints)} images of {scan.slices} slices")
        if door.expected is None and not faults:
            door.expected = prints
        elif not faults and prints != door.expected:
            wrong = sum(a != b for a, b in zip(prints, door.expected or [], strict=False))
            faults.append(f"{wrong} images differ from the first scan's")
        door.faults += [f"scan {door.scans}: {fault}" for fault in faults]
        pairs = zip(sent_at, arrived, strict=False)
        door.latencies += [(there, 1e3 * (there - sent)) for sent, there in pairs]
        door.own += zip(arrived, own, strict=True)


def readings(process: int) -> tuple[int, int, int, float]:
    """Resident memory in bytes, file descriptors, threads, processor time in seconds."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    memory = re.search(r"VmRSS:\s+(\d+)", status)
    threads = re.search(r"Threads:\s+(\d+)", status)
    files = len(list(Path(f"/proc/{process}/fd").iterdir()))
    return (
        1024 * int(memory.group(1)) if memory else 0,
        files,
        int(threads.group(1)) if threads else 0,
        processor_time(process),
    )


def processor_time(process: int | str) -> float:
    """Of a process, in seconds."""
    words = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    fields = words.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy_time() -> float:
    """Of all processors of the machine since its start, in seconds; not idle, not waiting."""
    with Path("/proc/stat").open(encoding="ascii") as file:
        user, nice, system, _, _, irq, soft, steal = (int(w) for w in file.readline().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def verdict(door: Door) -> dict[str, Any]:
    """What must hold, and whether it does."""
    times = np.array([r[0] for r in door.readings])
    values = np.array([r[1:4] for r in door.readings], dtype=float)
    judged = times >= times[0] + WARM_UP * (times[-1] - times[0])
    slope = np.polyfit(times[judged], values[judged, 0], 1)[0]
    growth = slope * (times[-1] - times[0]) / values[judged, 0].mean()
    files, threads = (_drift(values[judged, column]) for column in (1, 2))
    percentiles, thirds = _latency(door.latencies)
    own, own_thirds = _latency(door.own)
    work = [_work(door, part) for part in np.array_split(np.arange(len(door.readings)), 3)]
    others = np.array([r.others for r in door.readings])
    return {
        "door": door.name,
        "scans": door.scans,
        "acquisitions": door.acquisitions,
        "images": door.images,
        "faults": len(door.faults),
        "memory MiB": values[judged, 0].mean() / 2**20,
        "memory growth %": 100 * growth,
        "descriptors drift": files,
        "threads drift": threads,
        "p50 ms": percentiles[0],
        "p95 ms": percentiles[1],
        "p99 ms": percentiles[2],
        "max ms": percentiles[3],
        "p99 first third ms": thirds[0],
        "p99 last third ms": thirds[2],
        "own p50 ms": own[0],
        "own p99 ms": own[2],
        "own p99 first third ms": own_thirds[0],
        "own p99 last third ms": own_thirds[2],
        "processor ms an image": _work(door, np.arange(len(door.readings))),
        "first third ms": work[0],
        "last third ms": work[2],
        "others' processors": others[1:].mean(),
        "others' first third": np.array_split(others[1:], 3)[0].mean(),
        "others' last third": np.array_split(others[1:], 3)[2].mean(),
    }


def _latency(pairs: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """p50, p95, p99 and the most of all; p99 of each third of the time."""
    if not pairs:
        return [float("nan")] * 4, [float("nan")] * 3
    times = np.array(pairs)
    latency = times[np.argsort(times[:, 0]), 1]
    thirds = [float(np.percentile(part, 99)) for part in np.array_split(latency, 3)]
    return [float(v) for v in np.percentile(latency, [50, 95, 99, 100])], thirds


def _work(door: Door, part: np.ndarray) -> float:
    """Processor time that a server took for each image of a part of the readings, in ms."""
    if not len(part):
        return float("nan")
    first, last = door.readings[part[0]], door.readings[part[-1]]
    images = sum(first.at < at <= last.at for at, _ in door.own)
    return 1e3 * (last.processor_s - first.processor_s) / images if images else float("nan")


def _drift(counts: np.ndarray) -> float:
    """Mean of the last quarter less that of the first."""
    quarter = max(1, len(counts) // 4)
    return float(counts[-quarter:].mean() - counts[:quarter].mean())


def failures(row: dict[str, Any]) -> Iterator[str]:
    """What does not hold."""
    if row["faults"]:
        yield f"{row['faults']} faults"
    if not row["memory growth %"] < 100 * MOST_GROWTH:
        yield f"memory grew by {row['memory growth %']:.2f} %"
    for what in ("descriptors drift", "threads drift"):
        if row[what] > 2:
            yield f"{what} {row[what]:+.1f}"
    if row["p99 last third ms"] > MOST_DRIFT * row["p99 first third ms"]:
        yield f"p99 went from {row['p99 first third ms']:.0f} to {row['p99 last third ms']:.0f} ms"
    if row["last third ms"] > MOST_WORK_DRIFT * row["first third ms"]:
        times = f"{row['first third ms']:.0f} to {row['last third ms']:.0f} ms"
        yield f"processor time for each image went from {times}"


def watch(doors: list[Door], stop: threading.Event) -> None:
    """Read the servers' memory once a second."""
    last_busy, last_ours, last_at = busy_time(), _ours(doors), time.monotonic()
    while not stop.wait(1.0):
        busy, ours, at = busy_time(), _ours(doors), time.monotonic()
        others = max(0.0, (busy - last_busy - (ours - last_ours)) / (at - last_at))
        last_busy, last_ours, last_at = busy, ours, at
        for door in doors:
            if door.process.poll() is not None:
                door.faults.append(f"the server ended with status {door.process.returncode}")
                stop.set()
                return
            door.readings.append(Reading(at, *readings(door.process.pid), others))


def _ours(doors: list[Door]) -> float:
    running = [str(d.process.pid) for d in doors if d.process.poll() is None]
    return sum(processor_time(process) for process in ["self", *running])


def soak(options: argparse.Namespace, folder: Path) -> tuple[list[Door], float]:
    """Send the scans; the doors, and how long it took in seconds."""
    path = folder / "scan.h5"
    simulate_scan(
        path,
        SimulationOptions(
            matrix=(options.lines, options.columns),
            slices=options.slices,
            coils=options.coils,
            acceleration=2,
            calibration_lines=16,
            line_interval_ms=options.interval,
            interleaved=False,
        ),
    )
    scan = record(path, options.method)
    doors = [start(name, options) for name in options.doors]
    lock, stop = threading.Lock(), threading.Event()
    watcher = threading.Thread(target=watch, args=(doors, stop), daemon=True)
    watcher.start()
    began = time.monotonic()
    left = {door.name: options.scans for door in doors}

    def client(door: Door) -> None:
        while not stop.is_set():
            with lock:
                if not left[door.name]:
                    return
                left[door.name] -= 1
            send(door, scan, options.pace, lock)
            done = sum(d.scans for d in doors)
            if done % 10 == 0:
                images, faults = sum(d.images for d in doors), sum(len(d.faults) for d in doors)
                minutes = (time.monotonic() - began) / 60
                print(f"soak: {done} scans, {images} images, {faults} faults, {minutes:.1f} min",
                      flush=True)  # fmt: skip

    clients = [
        threading.Thread(target=client, args=(door,))
        for door in doors
        for _ in range(options.clients)
    ]
    for number, thread in enumerate(clients):
        thread.start()
        time.sleep(0.37 * (number < len(clients) - 1))  # scans out of step with one another
    for thread in clients:
        thread.join()
    took = time.monotonic() - began
    stop.set()
    watcher.join()
    for door in doors:
        door.process.send_signal(signal.SIGTERM)
        status = door.process.wait(60)
        if door.process.stderr is not None:
            door.process.stderr.close()
        if status:
            door.faults.append(f"the server ended with status {status}")
    return doors, took


def main() -> None:
    """Soak, judge, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--doors", nargs="+", choices=DOORS, default=list(DOORS))
    parser.add_argument("--scans", type=int, default=100, help="for each door")
    parser.add_argument("--clients", type=int, default=4, help="scans at a time, for each door")
    parser.add_argument("--slices", type=int, default=60)
    parser.add_argument("--lines", type=int, default=184)
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--coils", type=int, default=4)
    parser.add_argument("--interval", type=float, default=10.0, help="ms between lines")
    parser.add_argument("--pace", type=float, default=1.0, help="times faster than the scanner")
    parser.add_argument("--method", default="chpnet")
    parser.add_argument("--out", type=Path, default=TABLES / "soak.md")
    parser.add_argument("--json", type=Path, help="write the rows as JSON too")
    parser.add_argument("--readings", type=Path, help="write memory by time as CSV, door by door")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chpnet-soak-") as folder:
        doors, took = soak(options, Path(folder))
    rows = [verdict(door) for door in doors]
    wrong = [f"{row['door']}: {text}" for row in rows for text in failures(row)]
    for door in doors:
        for fault in door.faults[:20]:
            print(f"soak: {door.name}: {fault}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if options.readings:
        lines = [",".join(map(str, (d.name, *reading))) for d in doors for reading in d.readings]
        header = "door,seconds,resident_bytes,descriptors,threads,processor_s,others_processors"
        options.readings.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    write(options.out, page(rows, took, wrong, options))
    if wrong:
        sys.exit("soak: " + "; ".join(wrong))


def command() -> str:
    """What was called, without where the results go."""
    words, places = ["python benchmarks/soak.py"], ("--out", "--json", "--readings")
    given = iter(sys.argv[1:])
    for word in given:
        if word in places:
            next(given, None)
        elif not word.startswith(tuple(f"{place}=" for place in places)):
            words.append(word)
    return " ".join(words)


def page(
    rows: list[dict[str, Any]], took: float, wrong: list[str], options: argparse.Namespace
) -> str:
    """The table."""
    load = ("door", "scans", "acquisitions", "images", "faults", "memory MiB", "memory growth %",
            "descriptors drift", "threads drift")  # fmt: skip
    speed = (
        "door",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "max ms",
        "p99 first third ms",
        "p99 last third ms",
    )
    own = ("door", "own p50 ms", "own p99 ms", "own p99 first third ms", "own p99 last third ms")
    work = ("door", "processor ms an image", "first third ms", "last third ms",
            "others' processors", "others' first third", "others' last third")  # fmt: skip
    few = {n: 1 if "ms" in n else 2 for n in work[1:]}
    digits = {"scans": 0, "acquisitions": 0, "images": 0, "faults": 0, "memory MiB": 0,
              "memory growth %": 2, "descriptors drift": 1, "threads drift": 1}  # fmt: skip
    tables = [
        markdown_table([{n: row[n] for n in load} for row in rows], digits),
        markdown_table([{n: row[n] for n in speed} for row in rows], dict.fromkeys(speed[1:], 0)),
        markdown_table([{n: row[n] for n in own} for row in rows], dict.fromkeys(own[1:], 0)),
        markdown_table([{n: row[n] for n in work} for row in rows], few),
    ]
    total = {n: sum(row[n] for row in rows) for n in ("scans", "acquisitions", "images")}
    said = "All of it held." if not wrong else "What did not hold: " + "; ".join(wrong) + "."
    matrix = f"{options.lines} x {options.columns}, {options.coils} coils, R = 2"
    pace = f"at {options.pace:g} times the scanner's pace ({options.interval:g} ms a line)"
    return f"""# Soak

Made by `{command()}`.

{total["scans"]} scans, {total["acquisitions"]:,} acquisitions and {total["images"]:,} images in
{took / 60:.0f} minutes: scans of {options.slices} slices of {matrix},
method {options.method}, {pace}, {options.clients} at a time to each door.
Every image, header and pixels, was compared with the first scan's. {said}

A fault is a scan without all of its images, with one that differs, with an error or without CLOSE,
or a server that ends. Memory growth: slope of the resident memory after the first
{100 * WARM_UP:.0f} %, over the whole time. Drift: last quarter less first quarter.

{tables[0]}

Latency from the last readout of a slice sent to its image received, with all clients at once:

{tables[1]}

The same by the server's own clock (`ChpnetLatencyMs` in the meta):

{tables[2]}

Processor time that the servers took for each image, and how many of the machine's processors other
work than the servers and the clients kept busy meanwhile (where they are busy, latency is the
machine's; processor time hardly is):

{tables[3]}

{machine(1)}
"""


if __name__ == "__main__":
    main()
