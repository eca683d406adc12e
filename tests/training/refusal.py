"""Pairs of processes that train together, of which one refuses its input; says how the other ended.

    python tests/training/refusal.py FOLDER SECONDS

FOLDER gets `outcomes.json`, by scene: the exit code of the other process, what it wrote to stderr,
and whether the one that refuses was still there then. Where it stays, its connections do, too, and
nobody learns from them that it has ended: as over NCCL.
"""

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import click
import torch
from torch import distributed

sys.path.insert(0, str(Path(__file__).parents[2]))

from chpnet_stream.errors import ChpnetError, InputError
from chpnet_training.devices import make_fabric
from chpnet_training.processes import ending_together, launch
from tests.training.goodbye import free_ports

SCENES = {
    "first": {"refuses": 0, "stays": True, "early": False},
    "second": {"refuses": 1, "stays": True, "early": False},
    "gone": {"refuses": 1, "stays": False, "early": False},
    "early": {"refuses": 1, "stays": True, "early": True},
}


def train(rank, refuses, early):
    """Come together, or refuse before that, and wait for each other."""
    with ending_together():
        if early and rank == refuses:
            raise InputError("scan.h5: found noise")
        fabric = make_fabric(accelerator="cpu")
        launch(fabric)
        if rank == refuses:
            raise InputError("scan.h5: found noise")
        fabric.barrier()


def part(rank, port, refuses, stays, early):
    """One process of a pair; with a store of their own, or with that of the one that waits."""
    torch.set_num_threads(1)
    world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    world |= {"GROUP_RANK": 0, "GROUP_WORLD_SIZE": 1, "TORCHELASTIC_RUN_ID": "refusal"}
    world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    world |= {"TORCHELASTIC_USE_AGENT_STORE": early}
    os.environ.update({name: str(value) for name, value in world.items()})
    try:
        train(rank, refuses, early)
    except ChpnetError as error:
        click.echo(error, err=True)
        if stays and rank == refuses:
            time.sleep(3600)
        os._exit(error.exit_code)  # without what this process has copied of its parent
    os._exit(0)


def begin(rank, port, said, scene):
    """Fork a process whose stderr goes to a file."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT, 0o600), 2)
        part(rank, port, **scene)
    return child


def ended_before(child, end):
    """Wait for a process; its exit code, None if it does not end in time."""
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    return None


def play(folder, name, port, end):
    """One scene."""
    scene = SCENES[name]
    files = [folder / f"{name}{rank}.txt" for rank in (0, 1)]
    children = [begin(rank, port, files[rank], scene) for rank in (0, 1)]
    store = None
    if scene["early"]:  # after the forks: it has a thread
        store = distributed.TCPStore(
            "127.0.0.1", port, is_master=True, wait_for_workers=False,
            timeout=timedelta(seconds=60),
        )  # fmt: skip
    refusing, other = children[scene["refuses"]], children[1 - scene["refuses"]]
    code = ended_before(other, end)
    there = os.waitpid(refusing, os.WNOHANG)[0] == 0
    for child, left in ((refusing, there), (other, code is None)):
        if left:
            os.kill(child, 9)
            os.waitpid(child, 0)
    del store
    return {"code": code, "said": files[1 - scene["refuses"]].read_text(), "there": there}


def main(folder, seconds):
    end = time.monotonic() + seconds
    ports = free_ports(len(SCENES))
    told = {name: play(folder, name, port, end) for name, port in zip(SCENES, ports, strict=True)}
    (folder / "outcomes.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
