"""Memory of a GPU, here a made-up one."""

import pytest
import torch

from chpnet_stream.benchmark.device_memory import DeviceMemory

MB = 2**20


def test_without_a_gpu_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert DeviceMemory().mb() is None


@pytest.mark.parametrize(
    ("free", "peak", "told"),
    [
        (600, 300, 300),  # 100 of TensorRT's own, which PyTorch doesn't know of
        (800, 450, 250),  # PyTorch has given some back
    ],
)
def test_what_is_taken_from_now_on(
    monkeypatch: pytest.MonkeyPatch, free: int, peak: int, told: int
) -> None:
    now = {"free": 900, "peak": 200}
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "mem_get_info", lambda: (now["free"] * MB, 1000 * MB))
    monkeypatch.setattr(cuda, "memory_reserved", lambda: 200 * MB)
    monkeypatch.setattr(cuda, "max_memory_reserved", lambda: now["peak"] * MB)
    reset: list[int] = []
    monkeypatch.setattr(cuda, "reset_peak_memory_stats", lambda: reset.append(1))
    memory = DeviceMemory()
    assert reset == [1]
    now |= {"free": free, "peak": peak}
    assert memory.mb() == told
