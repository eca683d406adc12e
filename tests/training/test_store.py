import os
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from chpnet_stream.errors import InputError, OutputError, OutputExistsError
from chpnet_training.bank import SourceBank
from chpnet_training.store import BankWriter
from tests.helpers import no_file_larger_than
from tests.training.tiny import tiny_bank

KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
import numpy as np
from chpnet_training.store import BankWriter
writer = BankWriter(Path(sys.argv[1]), 64, overwrite=True).__enter__()
for _ in range(50):
    writer.add(np.random.default_rng(0).random((64, 64)))
os.kill(os.getpid(), getattr(signal, sys.argv[2]))
"""

WRITING = """
import sys
from pathlib import Path
import numpy as np
from chpnet_training.store import BankWriter
with BankWriter(Path(sys.argv[1]), 64) as writer:
    writer.add(np.ones((64, 64)))
    print("writing", flush=True)
    sys.stdin.read()
"""


def write(path, images, **changes):
    n = len(images)
    columns = {
        "weights": np.ones(n),
        "split": np.array(["train"] * n, dtype=object),
        "subjects": np.array([f"s{i}" for i in range(n)], dtype=object),
        "origins": np.array([f"o{i}" for i in range(n)], dtype=object),
        "manifest": {},
    }
    with BankWriter(path, 64) as writer:
        for image in images:
            writer.add(image)
        writer.finish(**(columns | changes))


def test_failure_leaves_nothing(tmp_path):
    def fail():
        with BankWriter(tmp_path / "data.h5", 64) as writer:
            writer.add(np.ones((8, 8)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_failure_leaves_the_old_file(tmp_path):
    path = tiny_bank(tmp_path / "data.h5")
    before = path.read_bytes()

    def fail(**changes):
        with BankWriter(path, 64, overwrite=True) as writer:
            writer.add(np.ones((8, 8)))
            one = np.array(["a"], dtype=object)
            values = {"weights": np.ones(1), "split": one, "subjects": one, "origins": one}
            writer.finish(**(values | {"manifest": {}} | changes))

    with pytest.raises(TypeError):
        fail(manifest={"not": {"json"}})
    with pytest.raises(InputError, match="expected equal lengths"):
        fail(weights=np.ones(2))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    fail()
    assert len(SourceBank.load(path)) == 1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_killed_while_writing_leaves_nothing_at_the_name(tmp_path, name):
    path = tmp_path / "data.h5"
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(path), name]
    ended = subprocess.run(command, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert ended.returncode == -getattr(signal, name)
    assert not path.exists()


def test_what_a_killed_process_left_is_removed_and_told(tmp_path, caplog):
    path = tmp_path / "data.h5"
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(path), "SIGKILL"]
    subprocess.run(command, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    (left,) = tmp_path.iterdir()
    other = tmp_path / ".other.h5.0123abcd.part"
    other.touch()
    tiny_bank(path)
    assert f"removed {left}" in caplog.text
    assert sorted(tmp_path.iterdir()) == [other, path]


def test_what_is_being_written_stays(tmp_path, caplog):
    """By another process, and by this one."""
    path = tmp_path / "data.h5"
    with subprocess.Popen(
        [sys.executable, "-c", WRITING, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout.readline() == b"writing\n"
        (others,) = tmp_path.iterdir()
        with BankWriter(path, 64) as writer:
            (mine,) = set(tmp_path.iterdir()) - {others}
            tiny_bank(path)
            assert set(tmp_path.iterdir()) == {others, mine, path}
            writer.add(np.ones((8, 8)))
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert not caplog.text
    assert list(tmp_path.iterdir()) == [path]
    assert len(SourceBank.load(path)) == 4


def test_without_finish_there_is_no_file(tmp_path):
    with BankWriter(tmp_path / "data.h5", 64) as writer:
        writer.add(np.ones((8, 8)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [1_000, 50_000, 200_000])
def test_a_full_disk_is_told(size, tmp_path):
    images = [np.random.default_rng(n).random((64, 64)) for n in range(40)]
    with no_file_larger_than(size), pytest.raises(OutputError, match=r"can't write .*: File too"):
        write(tmp_path / "data.h5", images)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "data.h5", images)
    assert len(SourceBank.load(tmp_path / "data.h5")) == 40


def test_existing_files_and_folders_are_refused(tmp_path):
    path = tiny_bank(tmp_path / "data.h5")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        BankWriter(path, 64)
    with pytest.raises(OutputError, match="is a folder"):
        BankWriter(tmp_path, 64, overwrite=True)
    with pytest.raises(OutputError, match="can't write"), BankWriter(path / "data.h5", 64):
        pass


def test_the_same_content_has_the_same_checksum(tmp_path):
    images = [np.linspace(0, 1, 64 * 40).reshape(64, 40), np.eye(32)]
    checksums = set()
    for name, changes in {
        "a": {},
        "b": {},
        "image": {"images": [images[0], 0.5 * images[1]]},
        "weights": {"weights": np.array([1.0, 2.0])},
        "split": {"split": np.array(["train", "val"], dtype=object)},
        "subjects": {"subjects": np.array(["s", "t"], dtype=object)},
        "manifest": {"manifest": {"seed": 1}},
    }.items():
        path = tmp_path / f"{name}.h5"
        write(path, changes.pop("images", images), **changes)
        checksums.add(SourceBank.load(path).checksum)
    assert len(checksums) == 6


def test_images_are_chunks_of_their_own(tmp_path):
    path = tiny_bank(tmp_path / "data.h5")
    with h5py.File(path) as file:
        assert file["images"].chunks == (1, 72, 72)
        assert file["images"].compression == "gzip"
        assert file["images"].id.get_storage_size() < 4 * 72 * 72 * 2
