"""What the tests of engines can ask for."""

import pytest

from chpnet_stream.engines import choice, processor
from tests.engines.real_rtx import real_rtx


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
    return real_rtx()
