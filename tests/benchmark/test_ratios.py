"""Like is compared with like."""

from typing import Any

from chpnet_stream.benchmark.ratios import FLOOR_NAME, ratios
from chpnet_stream.benchmark.references import BART, CG_SENSE, ONNX_NAME, PAPER

SIZE = {"coils": 8, "matrix": 128}


def row(by: str, part: str, ms: float | None, engine: str | None = None, **size: int) -> Any:
    return {**SIZE, **size, "by": by, "part": part, "ms": ms, "engine": engine}


REFERENCES = [
    row("pytorch-cpu-bf16", "network", 20.0, "pytorch:bf16"),
    row("pytorch-cpu-bf16", "image", 30.0, "pytorch:bf16"),
    row(ONNX_NAME, "network", 50.0, "onnx"),
    row(ONNX_NAME, "image", 60.0, "onnx"),
    row(PAPER, "network", 600.0),
    row(CG_SENSE, "image", 15.0),
    row(BART, "image", None),
    row(FLOOR_NAME, "gadget", 10.0),
    row(PAPER, "network", 9999.0, matrix=256),
]


def streamed(asked: str, engine: str, **size: int) -> dict[str, Any]:
    return {**SIZE, **size, "asked": asked, "engine": engine, "p50_ms": 40.0}


def test_each_engine_beside_each_other_method_of_its_size() -> None:
    quick, plain = ratios(
        [streamed("pytorch:bf16", "pytorch-cpu-bf16"), streamed("onnx", "onnx-cpu")], REFERENCES
    )
    assert quick == {
        **SIZE,
        "engine": "pytorch-cpu-bf16",
        "paper_size": 30.0,
        "onnx_runtime": 2.5,
        "cg_sense": 0.5,
        "bart_pics": None,  # it was not measured
        "fft_rss_gadget": 0.25,
    }
    assert (plain["paper_size"], plain["onnx_runtime"], plain["cg_sense"]) == (12.0, 1.0, 0.25)


def test_what_was_not_measured_has_no_ratio() -> None:
    (other,) = ratios([streamed("onnx", "onnx-cpu", matrix=64)], REFERENCES)
    assert {other[name] for name in other if name not in ("coils", "matrix", "engine")} == {None}
