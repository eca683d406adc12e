"""Processor, memory, load, files, and the GPU's driver."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from chpnet_stream.doctor.finding import Finding
from chpnet_stream.doctor.run import answer_of
from chpnet_stream.engines.processor import cores, has_bfloat16, processor
from chpnet_stream.whole_number import whole_number

GIBI = 2**30
LEAST_GB = 1.0
GOOD_GB = 4.0
LEAST_FILES = 1024


def machine_findings() -> Iterator[Finding]:
    """Everything that can be told without loading anything."""
    yield _processor()
    yield _load()
    yield _memory()
    yield _files()
    yield _driver()


def _processor() -> Finding:
    count, fast = cores(), has_bfloat16()
    found = f"{processor()}, {count} cores, {'with' if fast else 'without'} bf16 instructions"
    threads = os.environ.get("OMP_NUM_THREADS", "")
    told = whole_number(threads)
    values = {"cores": count, "bfloat16": fast, "system": platform.system()}
    if told is not None and told < count:
        return Finding(
            "machine",
            "processor",
            "warn",
            f"{found}; OMP_NUM_THREADS={threads} leaves some of them idle",
            "unset OMP_NUM_THREADS, or use --threads of the server",
            values,
        )
    return Finding("machine", "processor", "ok", found, values=values)


def _load() -> Finding:
    load = os.getloadavg()[0]
    if load > cores():
        return Finding(
            "machine",
            "load",
            "warn",
            f"{load:.1f} processes want the {cores()} cores: times below are longer than need be",
            "look what runs beside (top), and ask again",
            {"load": load},
        )
    return Finding("machine", "load", "ok", f"{load:.1f}", values={"load": load})


def _memory() -> Finding:
    available, total = memory_gb()
    values = {"available_gb": available, "total_gb": total}
    if available is None:
        return Finding("machine", "memory", "info", "can't be told here", values=values)
    found = f"{available:.1f} of {total:.1f} GB available"
    if available < LEAST_GB:
        advice = "end other programs: a scan of 16 coils needs about 1 GB"
        return Finding("machine", "memory", "fail", found, advice, values)
    if available < GOOD_GB:
        advice = "enough for a scan; several at once may need more"
        return Finding("machine", "memory", "warn", found, advice, values)
    return Finding("machine", "memory", "ok", found, values=values)


def memory_gb(
    meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")
) -> tuple[float | None, float | None]:
    """Memory available and in all, in GB; less where a container has a limit.

    Args:
        meminfo: What Linux says of its memory.
        cgroup: What it says of the container.
    """
    try:
        lines = meminfo.read_text(encoding="utf-8").splitlines()
        told = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if ":" in line}
        available, total = told["MemAvailable"], told["MemTotal"]
    except (OSError, KeyError, ValueError, IndexError):
        return None, None
    try:
        limit = int((cgroup / "memory.max").read_text(encoding="utf-8"))
        used = int((cgroup / "memory.current").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return available / GIBI, total / GIBI
    return min(available, max(0, limit - used)) / GIBI, min(total, limit) / GIBI


def _files() -> Finding:
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 < limit < LEAST_FILES:
        return Finding(
            "machine",
            "open files",
            "warn",
            f"{limit} allowed",
            f"ulimit -n {LEAST_FILES} before the server starts",
        )
    return Finding("machine", "open files", "ok", f"{limit} allowed" if limit > 0 else "no limit")


def _driver() -> Finding:
    program = shutil.which("nvidia-smi")
    if program is None:
        found = "no NVIDIA driver (nvidia-smi): networks run on the CPU"
        return Finding("machine", "GPU driver", "info", found)
    words = [program, "--query-gpu=name,driver_version,memory.total,memory.free"]
    status, text = answer_of([*words, "--format=csv,noheader"])
    if status != 0:
        return Finding(
            "machine",
            "GPU driver",
            "warn",
            f"nvidia-smi failed: {text.splitlines()[0] if text else status}",
            "reload or reinstall the NVIDIA driver",
        )
    return Finding("machine", "GPU driver", "ok", "; ".join(text.splitlines()))
