"""What runs first in a process of Gadgetron's, and in no other."""

import os
import subprocess
import sys
from pathlib import Path

from chpnet_stream.idle_threads import SETTINGS
from tests.gadgets.peers import STARTUP


def python(code: str, *folders: Path) -> str:
    path = ":".join(str(folder) for folder in folders)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def test_other_processes_are_left_alone() -> None:
    code = "import sys; print('gadgetron' in sys.modules, 'sitecustomize' in sys.modules)"
    assert python(code, STARTUP) == "False True"


def test_a_hidden_sitecustomize_still_runs(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.seen = __name__")
    code = "import sys; print(sys.seen)"
    assert python(code, STARTUP, tmp_path) == "sitecustomize"
    assert python(code, tmp_path, STARTUP) == "sitecustomize"


def test_how_threads_wait_is_said_before_numpy_is_there(tmp_path: Path) -> None:
    package = tmp_path / "gadgetron"
    package.mkdir()
    (package / "__init__.py").touch()
    told = "print(os.environ.get('OPENBLAS_NUM_THREADS'), 'numpy' in sys.modules)"
    (package / "__main__.py").write_text(f"import os, sys\n{told}\n")
    clean = {k: v for k, v in os.environ.items() if k not in (*SETTINGS, "OPENBLAS_NUM_THREADS")}
    for gadget, expected in (("chpnet_gadgets.images", "1 False"), ("others.gadget", "None False")):
        done = subprocess.run(
            [sys.executable, "-m", "gadgetron", "0", gadget, "run"],
            env=clean | {"PYTHONPATH": f"{STARTUP}:{tmp_path}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stdout.strip() == expected
