"""The command `chpnet-stream`: a table of verbs, of which only the one that runs is imported.

A verb is a module `chpnet_stream.cli.cmd_<verb>` with a click command named `command`, plus one
line in `VERBS`. The help text stands in that table: `chpnet-stream --help` imports none of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NoReturn

from chpnet_stream.cli.errors import PROGRAM
from chpnet_stream.cli.group import make_group, run_group
from chpnet_stream.idle_threads import let_idle_threads_sleep

VERBS = {
    "bench": "Measure latency, throughput and memory of this machine.",
    "chain": "Check a Gadgetron chain before the scan.",
    "doctor": "Say what this machine can do, and what to do about the rest.",
    "gadget": "Serve scans to Gadgetron chains, with the model loaded.",
    "info": "Say what a scan is, and whether it can be reconstructed.",
    "models": "List the networks that are installed.",
    "offline": "Reconstruct an ISMRMRD file.",
    "pipe": "Reconstruct a scan from standard input to standard output.",
    "send": "Send a scan to a server, as the scanner would.",
    "serve": "Serve scans to MRD clients: FIRE, OpenRecon and others.",
    "simulate": "Write a simulated scan of a head phantom as an ISMRMRD file.",
}


cli = make_group(
    PROGRAM,
    "Reconstructs accelerated MRI scans: ISMRMRD in, ISMRMRD out.",
    VERBS,
    "chpnet_stream.cli",
)


def keep_standard_files() -> None:
    """Put the null device where standard input, output or error is closed.

    Else a socket or a file gets its number, and what a library prints goes into a scan.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and leaves with its exit code.

    Args:
        args: Words after the program's name; by default those of this process.
    """
    keep_standard_files()
    let_idle_threads_sleep()
    run_group(cli, PROGRAM, args)
