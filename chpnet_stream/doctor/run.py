"""Other programs, asked with patience."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def answer_of(
    words: Sequence[str],
    seconds: float = 20.0,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> tuple[int | None, str]:
    """Exit status of a program and what it says; status None where it can't be run or hangs.

    Args:
        words: Program and arguments.
        seconds: It is ended after so long.
        env: Its environment; ours by default.
        folder: Its working folder.
    """
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands
            list(words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            env=None if env is None else dict(env),
            cwd=folder,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {seconds:g} s"
    except OSError as error:
        return None, str(error.strerror)
    text = (done.stdout or done.stderr).decode("utf-8", "replace").strip()
    return done.returncode, text
