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
from chpnet_training.options import allocator_missing

PROGRAM = "chpnet-train"

VERBS = {
    "inspect": "Say and show what is in a file of training data.",
    "prepare": "Make one file of training data of images, volumes and raw scans.",
    "teacher": "Train the teacher before it teaches.",
    "distill": "Train a student with a teacher that learns while it teaches.",
    "student": "Train a student without a teacher.",
    "finetune": "Train a model on, for other data.",
    "ablate": "Compare ways of teaching: every arm with every seed.",
    "merge": "Make one report of a study whose seeds were trained on several machines.",
    "run": "Do everything in order: data, teacher, student, model, scores.",
    "tune": "Choose how far a model may trust itself, on an image of another kind.",
    "gate": "Set the limits of a model's quality gate.",
    "export": "Make a model of a checkpoint: weights, ONNX, card.",
    "compile": "Make TensorRT plans of a model, for a kind of GPU and a precision.",
    "evaluate": "Score a model on fully sampled raw data.",
}

TRAINING = ("teacher", "distill", "student", "finetune", "ablate", "run")

cli = make_group(
    PROGRAM, "Trains, exports and scores the networks of chpnet-stream.", VERBS, "chpnet_training"
)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and leaves with its exit code.

    Verbs that train restart their own process once with the allocator's settings in the
    environment; names that are set there already stay as they are.

    Args:
        args: Words after the program's name; by default those of this process.
    """
    if args is None and len(sys.argv) > 1 and sys.argv[1] in TRAINING:
        _restart_with_allocator()
    run_group(cli, PROGRAM, args, ("chpnet_training",))


def _restart_with_allocator() -> None:
    missing = allocator_missing()
    if sys.platform == "linux" and missing:
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **missing})  # noqa: S606 - ourselves
