"""The steps of the images, run without Docker, and what the Dockerfile makes of them."""

import base64
import fnmatch
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from chpnet_stream import __version__
from chpnet_stream.schema import SETTINGS

CHECKOUT = Path(__file__).resolve().parents[2]
DOCKER = CHECKOUT / "docker"
LOCK = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")


def script(name: str, *words: object, **more: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable] if name.endswith(".py") else []
    return subprocess.run(
        [*program, str(DOCKER / name), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=os.environ | {"PYTHON": sys.executable} | more,
    )


def locked(variant: str) -> dict[str, str]:
    """Entries of a variant's lock file by their first lines."""
    done = script("lock_for.py", variant, CHECKOUT / "requirements.lock")
    assert done.returncode == 0, done.stderr
    entries = re.split(r"\n(?=\S)", done.stdout.strip())
    return {entry.partition("\\")[0].strip(): entry for entry in entries}


def names(heads: list[str] | dict[str, str]) -> set[str]:
    return {head.partition("==")[0] for head in heads if "==" in head}


def test_a_cpu_gets_everything_but_cuda() -> None:
    found = locked("cpu")
    wanted = set(re.findall(r"^([a-z][\w.-]*)==", LOCK, re.MULTILINE))
    gone = wanted - names(found)
    assert {"nvidia-cublas", "nvidia-cudnn-cu13", "cuda-bindings", "triton"} <= gone
    assert all(name.startswith(("nvidia-", "cuda-", "triton")) for name in gone)
    torch = [entry for head, entry in found.items() if head.startswith("torch==")]
    assert len(torch) == 1
    assert re.fullmatch(r"torch==[\d.]+\+cpu \\\n    --hash=sha256:[0-9a-f]{64}", torch[0])
    packages = [entry for head, entry in found.items() if not head.startswith("--")]
    assert all("--hash=sha256:" in entry for entry in packages)


def test_a_gpu_gets_cuda_and_tensorrt() -> None:
    found = locked("cuda")
    there = names(found)
    assert {
        "nvidia-cublas",
        "torch",
        "tensorrt-rtx-cu13",
        "tensorrt-rtx-cu13-libs",
        "onnx",
    } <= there
    assert not any("+cpu" in head for head in found)
    assert all("--hash=sha256:" in entry for entry in found.values())
    # each package once for each Python: TensorRT's own lock adds no second numpy
    assert sum(head.startswith("numpy==") for head in found) == LOCK.count("\nnumpy==")
    text = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    pinned = re.search(r'"tensorrt-rtx-cu13==([\d.]+)', text)
    assert pinned is not None
    assert f"tensorrt-rtx-cu13=={pinned[1]}" in found


def test_the_lock_files_agree() -> None:
    """A package that two of them have is the same in both."""
    ours = set(re.findall(r"(?m)^([\w.-]+)==(\S+)", LOCK))
    for other in ("tensorrt-rtx.lock", "build.lock"):
        text = (DOCKER / other).read_text(encoding="utf-8")
        found = re.findall(r"(?m)^([\w.-]+)==(\S+)", text)
        assert len(found) > 3
        assert [pair for pair in found if pair[0] in dict(ours) and pair not in ours] == []


def test_what_can_not_be_locked_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "requirements.lock"
    other.write_text(re.sub(r"(?m)^torch==\S+", "torch==9.9.9", LOCK), encoding="utf-8")
    done = script("lock_for.py", "cpu", other)
    assert done.returncode == 1
    assert "found torch 9.9.9 in the lock file, expected one whose CPU build" in done.stderr
    assert "expected one of cpu, cuda, found 'rocm'" in script("lock_for.py", "rocm", other).stderr


def test_a_package_with_another_checksum_is_not_installed(tmp_path: Path) -> None:
    lock = tmp_path / "packages.lock"
    lock.write_text(f"pluggy==1.7.0 --hash=sha256:{64 * '0'}\n", encoding="utf-8")
    done = script("packages.sh", tmp_path / "prefix", lock)
    assert done.returncode != 0
    assert "HASH" in done.stderr.upper()


def test_the_program_is_built_and_installed_as_in_the_image(tmp_path: Path) -> None:
    """Built by the locked tools; its packages are those of the tests."""
    done = script("wheel.sh", CHECKOUT, tmp_path / "dist")
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").iterdir()
    prefix = tmp_path / "prefix"
    venv.create(prefix)
    (site,) = prefix.glob("lib/python3*/site-packages")
    ours = next(p for p in map(Path, sys.path) if (p / "numpy").is_dir())
    (site / "packages.pth").write_text(f"{ours}\n", encoding="utf-8")
    done = script("product.sh", prefix, wheel, PIP_FORCE_REINSTALL="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert __version__ in done.stdout
    assert (site / "chpnet_stream" / "models" / "chpnet-rt.json").is_file()
    assert (prefix / "share" / "gadgetron" / "config" / "chpnet_cartesian.xml").is_file()


def stages() -> dict[str, list[str]]:
    """Instructions of each stage, continued lines joined."""
    text = re.sub(r"\\\n", " ", "\n".join(x for x in DOCKERFILE.splitlines() if x[:1] != "#"))
    found: dict[str, list[str]] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        head = re.match(r"FROM (\S+) AS (\S+)", line)
        if head:
            found[head[2]] = [line]
        elif found:
            found[list(found)[-1]].append(" ".join(line.split()))
    return found


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_both_targets_are_whole(target: str) -> None:
    lines = stages()[target]
    assert lines[0] == f"FROM runtime AS {target}"
    assert f"COPY --from=packages-{target} /opt/chpnet-stream /opt/chpnet-stream" in lines
    assert any("/docker/product.sh /opt/chpnet-stream /dist/*.whl" in line for line in lines)
    assert lines[-1] == "USER chpnet"
    built = stages()[f"packages-{target}"]
    assert any(f"docker/lock_for.py {target} requirements.lock" in line for line in built)
    assert list(stages())[-1] == "cpu"  # what `docker build .` makes


def test_the_server_is_what_starts_and_what_is_asked() -> None:
    lines = stages()["runtime"]
    assert 'ENTRYPOINT ["chpnet-stream"]' in lines
    health = next(line for line in lines if line.startswith("HEALTHCHECK"))
    assert health.endswith('CMD chpnet-stream doctor --answers "$CHPNET_HEALTH_PORT"')
    assert re.search(r"(?m)^ARG PYTHON=3\.11\.\d+-slim-\w+$", DOCKERFILE)
    assert ":latest" not in DOCKERFILE


def test_what_is_copied_is_there_and_sent_to_docker() -> None:
    ignored = (CHECKOUT / ".dockerignore").read_text(encoding="utf-8").split()
    for lines in stages().values():
        for line in lines:
            if not line.startswith("COPY ") or "--from" in line:
                continue
            for name in line.split()[1:-1]:
                assert (CHECKOUT / name).exists(), name
                assert not any(fnmatch.fnmatch(name, pattern) for pattern in ignored), name
    for name in set(re.findall(r"docker/(\w+\.(?:sh|py))", DOCKERFILE)):
        path = DOCKER / name
        assert path.is_file()
        assert path.suffix == ".py" or os.access(path, os.X_OK), name


def test_the_label_of_openrecon() -> None:
    done = script("openrecon_label.py")
    assert done.returncode == 0, done.stderr
    name, _, value = done.stdout.strip().partition("=")
    assert name == "com.siemens-healthineers.magneticresonance.openrecon.metadata:1.1.0"
    told = json.loads(base64.b64decode(value))
    assert told["general"]["version"] == __version__
    assert told["reconstruction"]["port"] == 9002
    for parameter in told["parameters"]:  # an unknown one would end the scan
        choices = SETTINGS[parameter["id"]].choices
        assert {one["id"] for one in parameter["values"]} <= set(choices)
        assert parameter["default"] == SETTINGS[parameter["id"]].default
