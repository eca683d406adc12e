"""What runs first in a process of Gadgetron's, and in no other."""

import os
import subprocess
import sys
from pathlib import Path

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
