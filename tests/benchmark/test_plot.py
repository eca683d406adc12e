"""The picture of latencies shows what the table says."""

from typing import Any

import numpy as np
import pytest

from chpnet_stream.benchmark.plan import Case, Plan
from chpnet_stream.benchmark.plot import latency_figure
from chpnet_stream.benchmark.ratios import COMPARISONS
from chpnet_stream.benchmark.run import Results


def streamed(engine: str, coils: int, matrix: int, p50: float) -> dict[str, Any]:
    more = {"p50_ms": p50, "p95_ms": 2 * p50, "p99_ms": 3 * p50, "max_ms": 4 * p50}
    return {"engine": engine, "coils": coils, "matrix": matrix, **more}


def other(name: str, coils: int, matrix: int, ms: float | None) -> dict[str, Any]:
    by, part = COMPARISONS[name]
    return {"by": by, "part": part, "what": by, "coils": coils, "matrix": matrix, "ms": ms}


def dots(axes: Any) -> dict[str, list[tuple[float, float]]]:
    """Places of the marks that the legend names."""
    return {
        mark.get_label(): [tuple(place) for place in np.asarray(mark.get_offsets())]
        for mark in axes.collections
        if not str(mark.get_label()).startswith("_")
    }


def test_every_engine_and_size_has_its_percentiles() -> None:
    plan = Plan(("a", "b"), (Case(128, 1), Case(128, 8), Case(256, 8)))
    results = Results(
        plan,
        streamed=[
            streamed("a", 1, 128, 10.0),
            streamed("a", 8, 128, 20.0),
            streamed("b", 8, 128, 30.0),
            streamed("b", 8, 256, 40.0),
        ],
        references=[other("bart_pics", 8, 256, 99.0), other("fft_rss_gadget", 8, 256, None)],
    )
    small, large = latency_figure(results).axes
    assert (small.get_title(), large.get_title()) == ("128 x 128", "256 x 256")
    assert [text.get_text() for text in small.get_xticklabels()] == ["1", "8"]
    first, second = dots(small)["a"], dots(small)["b"]
    assert [y for _, y in first] == [10, 20]
    assert [y for _, y in second] == [30]
    assert first[0][0] < 0.5 < first[1][0] < second[0][0]  # in the order of coils, then engines
    assert set(dots(large)) == {"b", "BART pics (median)"}  # nothing of what was not measured
    assert dots(large)["BART pics (median)"] == [(1, 99)]
    lines = [line for mark in large.collections for line in getattr(mark, "get_segments", list)()]
    assert [[y for _, y in line] for line in lines] == [[40, 80], [80, 120]]
    slowest = [mark for mark in large.collections if mark.get_offsets()[0][1] == 160]
    assert len(slowest) == 1


@pytest.mark.parametrize("engines", [1, 2, 3])
def test_one_size_is_enough(engines: int) -> None:
    plan = Plan(("a",), (Case(64, 2),))
    rows = [streamed(f"engine {n}", 2, 64, 5.0) for n in range(engines)]
    (axes,) = latency_figure(Results(plan, streamed=rows)).axes
    places = [place for marks in dots(axes).values() for place, _ in marks]
    assert len(set(places)) == engines
    assert sum(places) == pytest.approx(0)
