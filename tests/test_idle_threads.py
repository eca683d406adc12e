import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
import torch

from chpnet_stream.idle_threads import (
    SPINS,
    let_idle_threads_sleep,
    take_over_threads,
    threads_of_all,
    work_alone,
)
from tests.helpers import torch_threads

T = TypeVar("T")

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OPENBLAS_NUM_THREADS")
OURS = ("active", str(SPINS), "1")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, OURS),
        ({"OMP_WAIT_POLICY": "passive"}, ("passive", None, "1")),
        ({"GOMP_SPINCOUNT": "100"}, (None, "100", "1")),
        ({"OPENBLAS_NUM_THREADS": "4"}, (*OURS[:2], "4")),
    ],
)
def test_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    expected: tuple[str | None, ...],
) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    let_idle_threads_sleep()
    assert tuple(os.environ.get(name) for name in NAMES) == expected


def test_the_command_line_sets_it_before_numpy_and_torch_are_there() -> None:
    code = (
        "import os, sys; from chpnet_stream.cli.main import main; sys.argv[1:] = ['--version']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(os.environ['GOMP_SPINCOUNT'], {'numpy', 'torch'} & set(sys.modules))"
    )
    clean = {k: v for k, v in os.environ.items() if k not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean, check=True
    )
    assert done.stdout.strip().endswith(f"{SPINS} set()")


def on_a_thread(work: Callable[[], T]) -> T:
    """What `work` gives on a new thread, whose number of threads is nobody else's."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(60)


def threads_of_new() -> int:
    return on_a_thread(torch.get_num_threads)


@pytest.fixture
def three() -> Iterator[None]:
    """PyTorch was told to use three threads."""
    with torch_threads(3):
        yield


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("asked", [False, True])
def test_one_thread_works_alone_and_the_others_as_before(asked: bool) -> None:
    def found() -> list[int]:
        before = [torch.get_num_threads()] if asked else []
        work_alone()
        work_alone()  # once more changes nothing
        alone = torch.get_num_threads()
        return [*before, alone, threads_of_all(), threads_of_new(), take_over_threads()]

    assert on_a_thread(found) == [*([3] if asked else []), 1, 3, 3, 3]
    assert torch.get_num_threads() == 3


def test_loops_of_a_thread_that_works_alone_start_no_others() -> None:
    """In a process of its own, where no loop has run yet."""
    code = """
import os, sys, torch
from chpnet_stream.idle_threads import keep_cores_busy, work_alone
torch.set_num_threads(2)
if sys.argv[1] == "alone":
    work_alone()
before = len(os.listdir("/proc/self/task"))
torch.rand(1000, 1000) @ torch.rand(1000, 1000)
torch.fft.fft2(torch.rand(16, 256, 256) + 0j)
keep_cores_busy()
print(len(os.listdir("/proc/self/task")) - before)
"""

    def started(how: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", code, how], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    assert started("together") > 0
    assert started("alone") == 0
