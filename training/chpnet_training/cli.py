"""The command `chpnet-train`: a table of verbs, of which only the one that runs is imported.

A verb is a module `chpnet_training.cmd_<verb>` with a click command named `command`, plus one line
in `VERBS`. Errors, log files and exit codes are those of `chpnet-stream`, by the same code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from chpnet_stream.cli.group import make_group, run_group

PROGRAM = "chpnet-train"

VERBS = {
    "bank": "Collect training images into one file.",
    "student": "Train a student on simulated scans.",
    "tune": "Choose how far a model may trust itself, on an image of another kind.",
    "export": "Make a model of a checkpoint: weights, ONNX, card.",
    "evaluate": "Score a model on fully sampled raw data.",
}

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "-1",
    "MALLOC_TOP_PAD_": str(64 * 2**20),
    "GOMP_SPINCOUNT": "1000",
}
"""Environment of a training process on Linux: freed memory is kept for the next step.

By default glibc hands the big temporary tensors of every step back to the kernel, and page faults
take half of the time. It reads these names once, when the process starts.
"""

cli = make_group(
    PROGRAM, "Trains, exports and scores the networks of chpnet-stream.", VERBS, "chpnet_training"
)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and leaves with its exit code.

    `student` restarts its own process once with `ALLOCATOR` in the environment; names that are set
    there already stay as they are.

    Args:
        args: Words after the program's name; by default those of this process.
    """
    if args is None and "student" in sys.argv[1:]:
        _restart_with_allocator()
    run_group(cli, PROGRAM, args, ("chpnet_training",))


def _restart_with_allocator() -> None:
    missing = {name: value for name, value in ALLOCATOR.items() if name not in os.environ}
    if sys.platform == "linux" and missing:
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **missing})  # noqa: S606 - ourselves
