"""The gadget that is measured, in a process as Gadgetron starts it.

`python -m gadgetron PORT chpnet_stream.benchmark.gadget serve` does what
`chpnet_gadgets.acquisitions` does, and tells at the end what its process saw of it.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from pathlib import Path
from typing import Any

REPORT = "CHPNET_BENCH_REPORT"
"""Environment variable: the file for what the process saw."""

THREADS = "CHPNET_BENCH_THREADS"


def serve(connection: Any) -> None:
    """Serve one scan.

    Args:
        connection: The `gadgetron.external.Connection`; its socket is taken over.
    """
    from chpnet_stream.idle_threads import let_idle_threads_sleep

    let_idle_threads_sleep()
    import torch

    from chpnet_stream.benchmark.device_memory import DeviceMemory
    from chpnet_stream.mrd.wire.connection import Connection
    from chpnet_stream.streaming.scan import Scan

    if os.environ.get(THREADS):
        torch.set_num_threads(int(os.environ[THREADS]))
    memory = DeviceMemory()
    ours = Connection.taken_over(connection)
    scan = Scan(ours, "acquisitions")
    try:
        scan.run()
    finally:
        metrics = scan.metrics
        report = {
            "stages_ms": {} if metrics is None else dict(metrics.stages_ms),
            "counted": {} if metrics is None else metrics.counted(),
            "peak_mb": peak_mb(),
            "device_mb": memory.mb(),
            "threads": torch.get_num_threads(),
        }
        Path(os.environ[REPORT]).write_text(json.dumps(report), encoding="utf-8")
        ours.hang_up()


def peak_mb() -> float:
    """Most memory that this process has held, in MB (2**20 bytes).

    Linux hands `ru_maxrss` on to a program from the process that started it, so it would be that of
    `bench`, with all its references, where that is more.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    if found:
        return int(found[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
