"""What the tests of engines can ask for."""

import pytest

from chpnet_stream.engines import choice, processor


@pytest.fixture
def bfloat16(monkeypatch):
    """Sets whether the CPU has bfloat16 instructions, as far as the choice of engines knows."""

    def pretend(has: bool) -> None:
        monkeypatch.setattr(choice, "has_bfloat16", lambda: has)

    return pretend


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test touches the user's plans."""
    monkeypatch.setenv("CHPNET_PLAN_CACHE", str(tmp_path / "plans"))
    processor.has_bfloat16.cache_clear()
    return tmp_path / "plans"


@pytest.fixture(scope="session")
def rtx():
    """TensorRT for RTX, which compiles without a GPU."""
    pytest.importorskip("tensorrt_rtx", reason="no tensorrt-rtx-cu13 (Linux on x86-64 only)")
    from chpnet_stream.engines.tensorrt_package import load_package

    return load_package("tensorrt-rtx")
