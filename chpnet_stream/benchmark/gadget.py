"""The gadget that is measured, in a process as Gadgetron starts it.

`python -m gadgetron PORT chpnet_stream.benchmark.gadget serve` does what
`chpnet_gadgets.acquisitions` does, and tells at the end what its process saw of it.
"""

from __future__ import annotations

import json
import os
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

    from chpnet_stream.mrd.wire.connection import Connection
    from chpnet_stream.streaming.scan import Scan

    if os.environ.get(THREADS):
        torch.set_num_threads(int(os.environ[THREADS]))
    before = _taken_mb(torch)
    ours = Connection.taken_over(connection)
    scan = Scan(ours, "acquisitions")
    try:
        scan.run()
    finally:
        metrics = scan.metrics
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        report = {
            "stages_ms": {} if metrics is None else dict(metrics.stages_ms),
            "counted": {} if metrics is None else metrics.counted(),
            "peak_mb": peak / (2**20 if sys.platform == "darwin" else 2**10),
            "device_mb": _device_mb(torch, before),
            "threads": torch.get_num_threads(),
        }
        Path(os.environ[REPORT]).write_text(json.dumps(report), encoding="utf-8")
        ours.hang_up()


def _taken_mb(torch: Any) -> float | None:
    """Memory of the GPU that is taken, by whomever; None where there is no GPU."""
    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    return float(total - free) / 2**20


def _device_mb(torch: Any, before: float | None) -> float | None:
    """Memory of the GPU for one scan; None where there is no GPU.

    What PyTorch held at most, or, where it is more, what has been taken since the start: TensorRT
    has memory of its own, which PyTorch doesn't know of. Another program that takes some meanwhile
    is counted, too.
    """
    now = _taken_mb(torch)
    if now is None or before is None:
        return None
    return max(now - before, float(torch.cuda.max_memory_reserved()) / 2**20)
