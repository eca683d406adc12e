"""What is found of packages, machine, ports, Gadgetron, models and folders: the real ones."""

import os
import shutil
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from chpnet_stream.chain.installed import installed_chains
from chpnet_stream.doctor import packages
from chpnet_stream.doctor.examination import Examination
from chpnet_stream.doctor.finding import Finding
from chpnet_stream.doctor.folders import folder_findings
from chpnet_stream.doctor.gadgetron import gadgetron_findings, tool_findings
from chpnet_stream.doctor.machine import machine_findings, memory_gb
from chpnet_stream.doctor.models import model_findings
from chpnet_stream.doctor.ports import (
    _command,
    listener,
    port_findings,
    serving_finding,
    what_answers,
)
from chpnet_stream.doctor.run import answer_of
from chpnet_stream.engines.processor import cores
from chpnet_stream.mrd_server import MrdServer
from chpnet_stream.network import weights


def test_packages_that_are_there_missing_and_too_old() -> None:
    needed = [
        "numpy>=1.0",
        "torch>=99",
        "no-such-package-at-all>=1",
        'pytest>=1; extra == "test"',
        'uvicorn>=99; extra == "serve"',
        'pillow>=1; extra == "plots"',
    ]
    found = {f.name: f for f in packages._packages(needed)}
    assert found["numpy"].level == "ok"
    assert found["torch"].level == "fail"
    assert "expected >=99" in found["torch"].found
    assert found["no-such-package-at-all"].level == "fail"
    assert found["no-such-package-at-all"].advice == "pip install 'no-such-package-at-all>=1'"
    assert "pytest" not in found
    assert found["extra serve"].level == "info"
    assert "uvicorn" in found["extra serve"].found
    assert found["extra serve"].advice == "if wanted: pip install 'chpnet-stream[serve]'"
    assert found["extra plots"].level == "ok"


def test_this_python_and_its_packages_are_fit() -> None:
    found = list(packages.package_findings())
    assert found[0].name == "Python"
    assert not [f for f in found if f.level == "fail"]
    assert packages._python(">=3.99").level == "fail"


def test_the_machine_is_described() -> None:
    found = {f.name: f for f in machine_findings()}
    assert found["processor"].values["cores"] == cores() >= 1
    assert set(found) == {"processor", "load", "memory", "open files", "GPU driver"}


def test_idle_cores_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chpnet_stream.doctor.machine.cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = next(f for f in machine_findings() if f.name == "processor")
    assert found.level == "warn"
    assert "OMP_NUM_THREADS" in found.advice


def test_memory_is_that_of_the_container_where_it_is_less(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n")
    assert memory_gb(meminfo, tmp_path) == (4.0, 8.0)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_gb(meminfo, tmp_path) == (4.0, 8.0)
    (tmp_path / "memory.max").write_text(f"{2 * 2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**30}\n")
    assert memory_gb(meminfo, tmp_path) == (1.0, 2.0)
    assert memory_gb(tmp_path / "none", tmp_path) == (None, None)


def test_ports_that_are_free_or_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (found,) = port_findings([port])
        assert found.level == "warn"
        assert f"in use by process {os.getpid()} (" in found.found
        assert "does not answer as an MRD server does" in found.found
        assert "--port" in found.advice
    (found,) = port_findings([port])
    assert found.level == "ok"
    assert listener(port) == ""


@pytest.mark.parametrize("more", [[], ["--port", "18001"]])
def test_a_gadget_is_known_by_its_command_and_not_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: list[str]
) -> None:
    words = ["/venv/bin/python3", "/venv/bin/chpnet-stream", "gadget", *more]
    (tmp_path / "cmdline").write_bytes("".join(f"{word}\0" for word in words).encode())
    owner = f"process 7 ({_command(tmp_path)})"
    monkeypatch.setattr("chpnet_stream.doctor.ports.listener", lambda port: owner)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        port = listening.getsockname()[1]
        (seen,) = port_findings([port])
        assert "in use by process 7" in seen.found
        assert "does not answer" not in seen.found
        assert serving_finding(port, 0.3).level == "ok"
        with pytest.raises(TimeoutError):
            listening.accept()


def test_a_server_of_ours_is_known_and_not_disturbed() -> None:
    server = MrdServer(port=0)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        (found,) = port_findings([server.address[1]])
    finally:
        server.stop()
        thread.join()
    assert found.level == "ok"
    assert "an MRD server, which says 'chpnet-stream" in found.found
    assert server.failed == 0


def test_a_server_that_says_nothing_or_something_else_is_given_up() -> None:
    def hello() -> None:
        sock, _ = listening.accept()
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        sock.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        started = time.monotonic()
        assert what_answers(port, 0.3) == "does not answer as an MRD server does"
        assert time.monotonic() - started < 20
        listening.accept()[0].close()
        thread = threading.Thread(target=hello)
        thread.start()
        assert what_answers(port, 5) == "does not answer as an MRD server does"
        thread.join()


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def looked(monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, Finding]:
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("GADGETRON_HOME", raising=False)
    return {f.name: f for f in gadgetron_findings()}


def test_no_gadgetron_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if shutil.which("gadgetron"):
        pytest.skip("there is a Gadgetron here")
    found = looked(monkeypatch, tmp_path)
    assert found["gadgetron"].level == "info"
    assert found["python of <execute>"].level in ("info", "ok")


def test_a_gadgetron_that_does_not_find_us(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder, "gadgetron", "echo '-- Version : 4.7.2'")
    program(folder, "python", "echo 'ModuleNotFoundError: no chpnet_gadgets'; exit 1")
    found = looked(monkeypatch, folder)
    assert found["gadgetron"].found.endswith("Version : 4.7.2")
    assert found["chains"].level == "warn"
    assert "are not in" in found["chains"].found
    assert found["python of <execute>"].level == "warn"
    assert "no chpnet_gadgets" in found["python of <execute>"].found


def test_a_gadgetron_that_finds_us(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    config = tmp_path / "share" / "gadgetron" / "config"
    folder.mkdir()
    config.mkdir(parents=True)
    for path in installed_chains().values():
        shutil.copy(path, config)
    program(folder, "gadgetron", "true")
    program(folder, "python", f'exec {sys.executable} "$@"')
    found = looked(monkeypatch, folder)
    assert found["python of <execute>"].level == "ok"
    assert "are not in" not in found["chains"].found


def test_a_gadgetron_that_has_only_a_python3(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Gadgetron takes that where there is no `python`."""
    program(tmp_path, "gadgetron", "true")
    program(tmp_path, "python3", f'exec {sys.executable} "$@"')
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = [f for f in gadgetron_findings() if f.name == "python of <execute>"]
    assert found.level == "ok"
    assert found.found.startswith(f"{tmp_path}/python3 ")


def test_programs_that_hang_are_given_up() -> None:
    started = time.monotonic()
    assert answer_of(["sleep", "60"], 0.2) == (None, "no answer within 0.2 s")
    assert time.monotonic() - started < 30
    assert answer_of(["/no/such/program"]) == (None, "No such file or directory")
    assert answer_of(["sh", "-c", "echo a; exit 3"]) == (3, "a")


def test_tools_have_their_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert all(f.level == "info" and "if wanted" in f.advice for f in tool_findings())


def test_models_are_compared_with_their_cards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = next(f for f in model_findings() if f.name == "chpnet-rt")
    assert good.level == "ok"
    for path in weights.MODELS.glob("chpnet-rt*"):
        shutil.copy(path, tmp_path)
    damaged = tmp_path / "chpnet-rt.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x55")
    monkeypatch.setattr(weights, "MODELS", tmp_path)
    (found,) = model_findings()
    assert found.level == "fail"
    assert "SHA-256" in found.found


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHPNET_PLAN_CACHE", str(tmp_path / "new"))
    found = {f.name: f for f in folder_findings()}
    assert found["compiled plans"].level == "ok"
    assert "made when it is needed" in found["compiled plans"].found
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHPNET_PLAN_CACHE", str(tmp_path / "file" / "below"))
    found = {f.name: f for f in folder_findings()}
    assert found["compiled plans"].level == "warn"
    assert "CHPNET_PLAN_CACHE" in found["compiled plans"].advice
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_look_that_fails_itself_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[Finding]:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("chpnet_stream.doctor.models.model_findings", broken)
    found = list(Examination(engines=False, ports=[]).findings())
    (fault,) = [f for f in found if f.section == "models"]
    assert fault.found == "failed itself: ZeroDivisionError: oh"
    assert [f for f in found if f.section == "tools"]
