"""Thousands of bad inputs, counted: no crash, no hang, no growth, always an error of ours.

    python -m tests.hostile.campaign --inputs 100000 --out docs/tables/hostile.md

Every input has a number, from which it is made again (`--only TARGET --first NUMBER --inputs 1`).
Inputs are taken in a process of their own, which is watched: a crash of a native library, an input
that takes longer than `--seconds`, and memory that grows are findings as much as an exception is.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import json
import logging
import os
import resource
import subprocess
import sys
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.hostile.mutation import mutated
from tests.hostile.targets import TARGETS, Target

GROWTH_BYTES = 256 * 2**20
"""Memory that may be added to what the first inputs of a target needed."""

SPACE_BYTES = 8 * 2**30
"""Address space that an input may ask for: twice the largest message that the limits allow."""


@dataclass
class Tally:
    """What came of the inputs of one target.

    Attributes:
        inputs: Inputs taken.
        distinct: Of these, different ones that are no good input.
        outcomes: Refused by which error, or taken.
        findings: Faults: number of the input, and what happened.
        slowest: Seconds of the slowest input.
        growth: Bytes by which the process grew.
        grew_at: The input at which it grew to that.
    """

    inputs: int = 0
    distinct: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, str]] = field(default_factory=list)
    slowest: float = 0.0
    growth: int = 0
    grew_at: int = -1


def bad_input(target: Target, number: int) -> bytes:
    """The input of that number."""
    import numpy as np

    rng = np.random.default_rng([zlib.crc32(target.name.encode()), number])
    return mutated(target.seeds(), target.changes, rng)


def take(target: Target, data: bytes) -> tuple[str, str | None]:
    """Give an input to its target; the outcome in a word, and the fault, if it is one."""
    from chpnet_stream.errors import ChpnetError

    try:
        return target.take(data), None
    except ChpnetError as error:
        text = str(error)
        if not text.strip() or "\n" in text:
            return type(error).__name__, f"an error that is not one line: {text!r}"
        return type(error).__name__, None
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        return "fault", f"{type(error).__name__}: {str(error)[:200]} ({place})"


def worker(name: str, first: int, inputs: int, seconds: float) -> None:
    """Take inputs and tell of each on standard output, a JSON line; a hang ends the process."""
    target = next(t for t in TARGETS if t.name == name)
    logging.disable(logging.CRITICAL)
    good = {hashlib.sha256(seed).digest() for seed in target.seeds()}
    for seed in target.seeds():
        target.take(seed)  # imports and caches
    used = _address_space()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPACE_BYTES, resource.RLIM_INFINITY))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(first, first + inputs):
        data = bad_input(target, number)
        print(json.dumps({"begin": number}), flush=True)
        faulthandler.dump_traceback_later(seconds, exit=True)
        began = time.perf_counter()
        outcome, fault = take(target, data)
        took = time.perf_counter() - began
        faulthandler.cancel_dump_traceback_later()
        digest = hashlib.sha256(data).digest()
        told = {
            "end": number,
            "outcome": outcome,
            "fault": fault,
            "seconds": took,
            "bad": digest not in good,
            "digest": digest.hex()[:16],
            "growth": 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start),
        }
        print(json.dumps(told), flush=True)


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def run_target(
    target: Target, first: int, inputs: int, seconds: float = 20.0, budget: float = 0.0
) -> Tally:
    """Inputs of one target, in processes that are started again behind each crash.

    Args:
        target: What is attacked.
        first: Number of the first input.
        inputs: How many.
        seconds: An input that takes longer is a hang.
        budget: Seconds after which no more inputs are given; 0 for all of them.
    """
    tally = Tally()
    seen: set[str] = set()
    stop = time.monotonic() + budget if budget else None
    at = first
    while at < first + inputs and (stop is None or time.monotonic() < stop):
        words = [sys.executable, "-W", "ignore", "-m", "tests.hostile.campaign", "--worker"]
        words += [target.name, str(at), str(first + inputs - at), str(seconds)]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
            text=True, errors="replace",
        )  # fmt: skip
        assert process.stdout is not None
        begun: int | None = None
        for line in process.stdout:
            told = json.loads(line)
            if "begin" in told:
                begun = told["begin"]
                continue
            begun = None
            at = told["end"] + 1
            _count(tally, told, seen)
            if stop is not None and time.monotonic() > stop:
                process.kill()
                break
        _, log = process.communicate()
        if begun is not None and process.returncode not in (0, -9):
            last = [line for line in log.strip().splitlines() if line.strip()][-6:]
            kind = "hang" if "Timeout" in log else f"crash, status {process.returncode}"
            tally.inputs += 1
            tally.findings.append((begun, f"{kind}: {' | '.join(last)[:300]}"))
            at = begun + 1
        elif process.returncode not in (0, -9):
            raise RuntimeError(f"the worker for {target.name} failed:\n{log}")
    if tally.growth > GROWTH_BYTES:
        tally.findings.append((tally.grew_at, f"memory grew by {tally.growth / 2**20:.0f} MiB"))
    return tally


def _count(tally: Tally, told: dict, seen: set[str]) -> None:
    tally.inputs += 1
    if told["bad"] and told["digest"] not in seen:
        seen.add(told["digest"])
        tally.distinct += 1
    tally.outcomes[told["outcome"]] += 1
    tally.slowest = max(tally.slowest, told["seconds"])
    if told["growth"] > tally.growth:
        tally.growth, tally.grew_at = told["growth"], told["end"]
    if told["fault"]:
        tally.findings.append((told["end"], told["fault"]))


def share(inputs: int) -> Iterator[tuple[Target, int]]:
    """Every target with its part of the inputs."""
    whole = sum(t.weight for t in TARGETS)
    for target in TARGETS:
        yield target, max(1, round(inputs * target.weight / whole))


def main() -> None:
    """Run the campaign, print and write the table; the exit code is 1 where faults were found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", nargs="+", choices=[t.name for t in TARGETS])
    parser.add_argument("--seconds", type=float, default=20.0, help="longer is a hang")
    parser.add_argument("--out", type=Path, help="table to write (Markdown)")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, first, inputs, seconds = options.worker
        worker(name, int(first), int(inputs), float(seconds))
        return
    tallies: dict[str, Tally] = {}
    for target, inputs in share(options.inputs):
        if options.only and target.name not in options.only:
            continue
        inputs = options.inputs if options.only else inputs
        began = time.monotonic()
        tally = tallies[target.name] = run_target(target, options.first, inputs, options.seconds)
        took = time.monotonic() - began
        print(f"{target.name}: {tally.inputs} inputs, {tally.distinct} distinct, {took:.0f} s, "
              f"{len(tally.findings)} findings", flush=True)  # fmt: skip
        for number, fault in tally.findings[:20]:
            print(f"  input {number}: {fault}", flush=True)
    if options.out:
        options.out.write_text(page(tallies, options), encoding="utf-8")
    sys.exit(1 if any(t.findings for t in tallies.values()) else 0)


def page(tallies: dict[str, Tally], options: argparse.Namespace) -> str:
    """The table."""
    rows = [
        "| what | bad inputs | refused | taken | slowest | memory grew by | faults |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for target in TARGETS:
        tally = tallies.get(target.name)
        if tally is None:
            continue
        refused = sum(n for what, n in tally.outcomes.items() if what.endswith("Error"))
        rows.append(
            f"| {target.what} | {tally.distinct:,} | {refused:,} | {tally.inputs - refused:,} | "
            f"{tally.slowest:.2f} s | {tally.growth / 2**20:.0f} MiB | {len(tally.findings)} |"
        )
    whole = sum(t.distinct for t in tallies.values())
    faults = sum(len(t.findings) for t in tallies.values())
    return f"""# Bad inputs

Made by `python -m tests.hostile.campaign --inputs {options.inputs} --out FILE`.

{whole:,} distinct bad inputs, made of good ones by a seed; {faults} faults. A fault is an exception
that is no error of ours, a crash, an input that takes more than {options.seconds:g} s, memory that
grows by more than {GROWTH_BYTES // 2**20} MiB, or, of scans, an answer that does not end in one
CLOSE, with an ERROR before it where the scan failed. *Refused*: by an error of ours, in one line.
*Taken*: still good enough (a changed pixel, another counter).

{chr(10).join(rows)}
"""


if __name__ == "__main__":
    main()
