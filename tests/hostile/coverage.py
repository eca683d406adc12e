"""The same targets, guided by coverage: libFuzzer keeps what reaches new code, and changes that.

    pip install atheris
    python -m tests.hostile.coverage --seconds 60 --out docs/tables/coverage.md

Each target is a process. A fault (see `campaign`) ends it, and the input is kept in `--corpus`.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.hostile.campaign import take
from tests.hostile.targets import TARGETS, Target

NAMES = (
    "messages",
    "scan",
    "buckets",
    "header",
    "configuration",
    "meta",
    "chain",
    "card",
    "recipe",
    "recon",
    "mrd2",
    "parameters",
)
"""All but files, whose library can't be seen from here, and images, which wait for the network."""

LONGEST = 60_000


def fuzz(target: Target, corpus: Path, seconds: int) -> None:
    """Fuzz one target in this process; does not return."""
    import atheris

    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=["chpnet_stream", "chpnet_training"]):
        for seed in target.seeds():
            take(target, seed)  # imports what it needs

    def one(data: bytes) -> None:
        _, fault = take(target, data)
        if fault is not None:
            raise RuntimeError(fault)

    options = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=4096"]
    options += [f"-max_len={LONGEST}", "-print_final_stats=1", f"-artifact_prefix={corpus}/fault-"]
    atheris.Setup([sys.argv[0], str(corpus), *options], one)
    atheris.Fuzz()


def run(name: str, folder: Path, seconds: int) -> tuple[int, int, int, str]:
    """Inputs tried, inputs kept for new coverage, edges covered, and the fault, if there is one."""
    target = next(t for t in TARGETS if t.name == name)
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds():
        if len(seed) <= LONGEST:
            (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    words = [sys.executable, "-W", "ignore", "-m", "tests.hostile.coverage", "--worker", name]
    words += ["--corpus", str(folder), "--seconds", str(seconds)]
    done = subprocess.run(
        words, capture_output=True, text=True, errors="replace", timeout=seconds + 600
    )
    text = done.stderr + done.stdout
    tried = re.search(r"number_of_executed_units: (\d+)", text)
    kept = re.search(r"new_units_added:\s+(\d+)", text)
    edges = re.findall(r"cov: (\d+)", text)
    if tried is None:
        raise RuntimeError(f"{name}: the fuzzer did not run:\n{text[-2000:]}")
    fault = ""
    if done.returncode:
        found = re.search(r"RuntimeError: (.*)|ERROR: libFuzzer: (.*)", text)
        fault = found.group(0) if found else f"status {done.returncode}"
    return int(tried[1]), int(kept[1]) if kept else 0, int(edges[-1]) if edges else 0, fault


def main() -> None:
    """Fuzz, print and write the table; the exit code is 1 where faults were found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--corpus", type=Path, help="folder to keep inputs in")
    parser.add_argument("--out", type=Path, help="table to write (Markdown)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        target = next(t for t in TARGETS if t.name == options.worker)
        fuzz(target, options.corpus / options.worker, options.seconds)
    with tempfile.TemporaryDirectory(prefix="chpnet-coverage-") as folder:
        place = options.corpus or Path(folder)
        rows = {}
        for name in options.only:
            rows[name] = tried, kept, edges, fault = run(name, place, options.seconds)
            print(
                f"{name}: {tried} inputs, {kept} reached new code, {edges} edges {fault}",
                flush=True,
            )
    if options.out:
        options.out.write_text(page(rows, options.seconds), encoding="utf-8")
    sys.exit(1 if any(fault for *_, fault in rows.values()) else 0)


def page(rows: dict[str, tuple[int, int, int, str]], seconds: int) -> str:
    """The table."""
    what = {t.name: t.what for t in TARGETS}
    lines = [
        f"| {what[name]} | {tried:,} | {kept:,} | {edges:,} | {fault or 'none'} |"
        for name, (tried, kept, edges, fault) in rows.items()
    ]
    whole = sum(tried for tried, *_ in rows.values())
    return f"""# Bad inputs, guided by coverage

Made by `python -m tests.hostile.coverage --seconds {seconds} --out FILE` (atheris).

{whole:,} inputs. Faults are those of [hostile.md](hostile.md), and more than 4 GiB of memory.

| what | inputs | reached new code | edges covered | fault |
|---|---:|---:|---:|---|
{chr(10).join(lines)}
"""


if __name__ == "__main__":
    main()
