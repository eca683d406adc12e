"""Dry runs in a process of their own; one that hangs or dies is told, and the others go on."""

import time
from pathlib import Path

import pytest

from chpnet_stream.doctor import engines as module
from chpnet_stream.doctor.engines import engine_findings
from chpnet_stream.engines.choice import ENGINES


def test_an_engine_reconstructs_and_is_timed() -> None:
    torch, gpu, onnx = engine_findings("chpnet-rt", 64, 200, ["onnx"])
    assert torch.name == "torch"
    assert torch.values["threads"] >= 1
    assert gpu.level in ("ok", "info", "warn")
    assert onnx.level == "ok"
    assert onnx.found.startswith("onnx-cpu on cpu: a slice of 64 x 64 in")
    assert 0 < onnx.values["network_ms"] < onnx.values["slice_ms"] < 60_000


def test_engines_that_misbehave_leave_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MODULE", "tests.doctor.bad_probe")
    started = time.monotonic()
    names = ["a", "crash", "b", "hang", "leave", "onnx"]
    found = [f for f in engine_findings("m", 64, 4, names) if f.name not in ("torch", "GPU")]
    assert time.monotonic() - started < 60
    assert [f.name for f in found] == names
    assert [f.level for f in found] == ["ok", "warn", "ok", "warn", "warn", "ok"]
    assert found[1].found == "the process ended by signal 9"
    assert found[3].found == "no end within 4 s"
    assert found[4].found == "the process ended with status 1: could not go on"
    assert all(f.advice for f in found if f.level != "ok")


def test_what_every_installation_has_must_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MODULE", "tests.doctor.no_such_probe")
    (found,) = engine_findings("m", 64, 20, ["onnx"])
    assert found.level == "fail"
    assert "No module named" in found.found


def test_a_package_that_is_missing_is_told_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PACKAGES", {"openvino": ("no_such_package", "remedy")})
    (found,) = engine_findings("m", 64, 20, ["openvino"])
    assert (found.level, found.advice) == ("info", "if wanted: pip install 'remedy'")


@pytest.mark.parametrize(
    ("cuda", "advice"), [(None, "a PyTorch with CUDA (this one has none)"), ("13.0", "driver to")]
)
def test_a_gpu_that_pytorch_can_not_use_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cuda: str | None, advice: str
) -> None:
    told = {"version": "2.13.0", "threads": 2, "cuda": cuda, "gpus": []}
    monkeypatch.setenv("PATH", str(tmp_path))
    (_, found) = module._torch(told)
    assert (found.level, found.advice) == ("info", "")
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA A100 (UUID: GPU-1-2)'\n", encoding="utf-8")
    program.chmod(0o755)
    (_, found) = module._torch(told)
    assert found.level == "warn"
    assert found.found.endswith("but there is GPU 0: NVIDIA A100")
    assert advice in found.advice


def test_every_engine_is_looked_at() -> None:
    assert set(module.NAMES) == set(ENGINES)
