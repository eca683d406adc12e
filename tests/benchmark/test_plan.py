"""Slices are sent as fast as two cores hold."""

import pytest

from chpnet_stream.benchmark.plan import (
    BUSY,
    COILS,
    FASTEST,
    MATRICES,
    SLOWEST,
    Case,
    Plan,
    in_half,
)
from chpnet_stream.benchmark.scan_bytes import ScanBytes
from chpnet_stream.engines import processor

PLAN = Plan(("onnx", "pytorch:bf16"), (Case(128, 8),), rate=None)


@pytest.fixture(autouse=True)
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU with instructions for bf16."""
    monkeypatch.setattr(processor, "has_bfloat16", lambda: True)


@pytest.mark.parametrize("case", [Case(64, 1), Case(65, 2), Case(90, 2), Case(16, 2)])
def test_lines_are_those_that_are_sent(case: Case) -> None:
    assert case.lines == ScanBytes(case).lines


def test_a_pace_leaves_a_third_of_the_time_for_every_size() -> None:
    for case in (Case(matrix, coils) for matrix in (*MATRICES, 1024) for coils in (*COILS, 128)):
        pace = case.pace()
        assert SLOWEST <= pace <= FASTEST
        assert pace == round(2 * pace) / 2
        assert pace == SLOWEST or case.spent_s() * (pace - 0.25) <= BUSY


def test_one_coil_has_all_lines_and_is_sent_slower_than_eight() -> None:
    assert Case(256, 1).pace() == 3
    assert Case(256, 8).pace() == 4.5


def test_all_engines_are_sent_the_same() -> None:
    case = Case(256, 16)
    assert PLAN.rate_of(case) == 4
    assert PLAN.late_of(case) == pytest.approx(500)
    assert Plan(PLAN.engines, PLAN.cases, rate=3.0).rate_of(case) == 3


def test_half_precision_spends_less_where_the_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    half = {name for name in ("auto", "pytorch", "openvino:auto", "onnx") if in_half(name)}
    assert half == {"auto", "pytorch", "openvino:auto"}
    assert not in_half("pytorch:fp32")
    assert Case(256, 16).spent_s(half=True) < Case(256, 16).spent_s()
    monkeypatch.setattr(processor, "has_bfloat16", lambda: False)
    assert not in_half("pytorch:bf16")


def test_sizes_as_people_read_them() -> None:
    assert Case(128, 1).words == "1 coil, 128 x 128"
    assert Case(256, 16).words == "16 coils, 256 x 256"


def test_properties_of_the_gadget() -> None:
    case = Case(256, 16)
    plan = Plan(("onnx:fp32",), (case,), rate=4.0, model="m.json")
    told = {"model": "m.json", "engine": "onnx", "precision": "fp32"}
    assert plan.properties_of(case, "onnx:fp32") == told
    assert plan.properties_of(case, "auto") == {"model": "m.json", "engine": "auto"}
    plan = Plan(("onnx:fp32",), (case,), rate=4.0, model="m.json", set_deadline=True)
    assert plan.properties_of(case, "onnx:fp32") == {**told, "deadline_ms": "500"}
