"""What the CPU can do."""

from __future__ import annotations

import functools
import itertools
import os
import platform
from pathlib import Path

BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""As Linux names the instructions on x86 and on ARM."""


VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "sve": "SVE", "asimd": "NEON"}
"""Instructions on many numbers at once, the widest first."""


@functools.cache
def has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU multiplies bfloat16 numbers itself; where it can't be told, it doesn't.

    Args:
        cpuinfo: What Linux says of it.
    """
    return bool(BFLOAT16_FLAGS & _flags(cpuinfo))


def instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What the speed of a network depends on: "AVX-512, bfloat16"; empty where it can't be told.

    Hypervisors call processors of several generations by one name.

    Args:
        cpuinfo: What Linux says of the CPU.
    """
    flags = _flags(cpuinfo)
    found = [words for flag, words in VECTORS.items() if flag in flags][:1]
    found += ["AMX"] if "amx_tile" in flags else []
    found += ["bfloat16"] if BFLOAT16_FLAGS & flags else []
    return ", ".join(found)


def _flags(cpuinfo: Path) -> frozenset[str]:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    found = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Feat")))
    return frozenset(itertools.chain.from_iterable(found))


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Name of the CPU.

    Args:
        cpuinfo: What Linux says of it.
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


def described() -> str:
    """Name and instructions of the CPU, as tables tell it: "AMD EPYC (AVX-512, bfloat16)"."""
    can = instructions()
    return f"{processor()} ({can})" if can else processor()
