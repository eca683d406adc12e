"""A pair of processes that come together, train a step and part, again and again.

python tests/training/goodbye.py ROUNDS SECONDS
"""

import os
import random
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from chpnet_training.devices import make_fabric
from chpnet_training.processes import launch
from tests.training.test_optimization import guarded, learn


def part(rank, ports):
    """As a program does that cleans up; the networks are dropped after the group."""
    torch.set_num_threads(1)
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    world |= {"GROUP_RANK": 0, "GROUP_WORLD_SIZE": 1, "TORCHELASTIC_RUN_ID": "goodbye"}
    for port in ports:
        world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in world.items()})
        fabric = make_fabric(accelerator="cpu", unused=True)
        launch(fabric)
        optimizer = guarded(fabric)
        learn(optimizer, 1.0)
        for _ in range(3):
            fabric.barrier()
        torch.distributed.destroy_process_group()
        del optimizer


def free_ports(count):
    """Ports that the kernel gives to nobody by itself.

    Of the others, a connection may take one before the group listens there: gloo's, or the one
    that looks for this very port (who connects to a port of that range may meet himself).
    """
    given = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    lowest, highest = map(int, given)
    others = [port for port in range(1024, 65536) if not lowest <= port <= highest]
    found = []
    for port in random.sample(others, len(others)):
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    sys.exit(f"expected {count} free ports outside of {lowest} to {highest}, found {len(found)}")


def main(rounds, seconds):
    ports, running, codes = free_ports(rounds), [], []
    for rank in (0, 1):
        child = os.fork()
        if child == 0:
            part(rank, ports)
            sys.exit(0)
        running.append(child)
    end = time.monotonic() + seconds
    while running and time.monotonic() < end:
        time.sleep(0.05)
        for child in list(running):
            done, code = os.waitpid(child, os.WNOHANG)
            if done:
                running.remove(child)
                codes.append(code)
    for child in running:
        os.kill(child, 9)
        os.waitpid(child, 0)
    if running:
        sys.exit(f"{len(running)} of 2 processes did not end")
    sys.exit(max(codes))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
