"""The allocator of a server: as few arenas as it is told, seen in glibc's own report."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ARENAS = """
import ctypes, sys, threading
from chpnet_stream.memory import keep_memory_flat
if sys.argv[1] == "flat" and not keep_memory_flat():
    sys.exit("no glibc")
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
gate = threading.Barrier(12)

def work():
    gate.wait()
    for _ in range(2000):  # without the interpreter's lock: all threads at a time
        libc.malloc(ctypes.c_size_t(1000))
    gate.wait()

threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
"""


def arenas(tmp_path: Path, manner: str, **variables: str) -> int:
    out = tmp_path / "malloc.xml"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", ARENAS, manner, str(out)],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "no glibc" in done.stderr or "malloc_info" in done.stderr:
        pytest.skip("another allocator than glibc's")
    assert done.returncode == 0, done.stderr
    return out.read_text(encoding="ascii").count("<heap nr=")


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_a_server_has_few_arenas(tmp_path: Path) -> None:
    assert arenas(tmp_path, "flat") <= 2
    assert arenas(tmp_path, "plain") > 2  # what would be otherwise


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_the_environment_wins(tmp_path: Path) -> None:
    assert arenas(tmp_path, "flat", MALLOC_ARENA_MAX="6") > 2


GIVEN_BACK = """
import ctypes, os
from chpnet_stream.memory import give_memory_back, keep_memory_flat
keep_memory_flat()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

pieces = [libc.malloc(ctypes.c_size_t(60_000)) for _ in range(2000)]
for piece in pieces: ctypes.memset(piece, 1, 60_000)
last = libc.malloc(ctypes.c_size_t(60_000))  # keeps the top of the heap in use
for piece in pieces: libc.free(piece)
before = resident()
give_memory_back()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_memory_goes_back_between_scans() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GIVEN_BACK], capture_output=True, text=True, timeout=120, check=True
    )
    assert int(done.stdout) > 80 * 2**20  # of 114 MiB
