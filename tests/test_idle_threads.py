import os
import subprocess
import sys

import pytest

from chpnet_stream.idle_threads import SPINS, let_idle_threads_sleep

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
