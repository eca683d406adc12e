"""Our program in processes of its own, and what it leaves behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np

PROGRAM = [sys.executable, "-m", "chpnet_stream"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def chpnet(*words: Any, **more: Any) -> subprocess.CompletedProcess[Any]:
    more.setdefault("text", True)
    return subprocess.run(
        [*PROGRAM, *map(str, words)],
        capture_output=True,
        timeout=240,
        check=False,
        env=ENVIRONMENT,
        **more,
    )


class Running:
    """A server in a process of its own."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, *words, "--port", "0", "--threads", "1"],
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        self.log: list[str] = []
        self.port = int(self.line("listening on 127.0.0.1 port").split("port ")[1].split()[0])

    def line(self, words: str) -> str:
        """The next line of the log with these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if words in line:
                return line
        raise AssertionError(f"no line with '{words}' in: {self.log}")


@contextmanager
def running(*words: str) -> Iterator[Running]:
    made = Running(*words)
    try:
        yield made
        made.process.send_signal(signal.SIGTERM)
        assert made.process.wait(60) == 0
    finally:
        if made.process.poll() is None:
            made.process.kill()
        made.process.communicate()


def images_in(path: Path, series: str = "image_1") -> list[Any]:
    with ismrmrd.Dataset(str(path), "dataset", mode="r") as dataset:
        return [dataset.read_image(series, n) for n in range(dataset.number_of_images(series))]


def same_pixels(found: list[Any], wanted: list[Any]) -> None:
    assert [(i.slice, i.repetition) for i in found] == [(i.slice, i.repetition) for i in wanted]
    for image, same in zip(found, wanted, strict=True):
        assert image.meta["ChpnetMethod"] == "chpnet"
        np.testing.assert_array_equal(image.data, same.data)
        assert tuple(image.position) == tuple(same.position)
