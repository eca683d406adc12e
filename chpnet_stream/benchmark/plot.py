"""Latency as a picture: what is usual, and what the worst slices of a series have to wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chpnet_stream.benchmark.ratios import COMPARISONS
from chpnet_stream.benchmark.run import Results
from chpnet_stream.pictures import use_private_cache
from chpnet_stream.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OTHERS = ("bart_pics", "fft_rss_gadget")
"""References that make images, too (`COMPARISONS`)."""

SPREAD = 0.7
"""Part of the room of a number of coils that its engines share."""


def save_latency(path: Path, results: Results) -> None:
    """Write the picture of `latency_figure`.

    Args:
        path: PNG file to write.
        results: What was measured; at least one engine and size.

    Raises:
        OutputError: If it can't be written.
    """
    figure = latency_figure(results)
    with whole_file(path) as temporary:
        figure.savefig(
            temporary, dpi=120, format="png", metadata={"Software": "chpnet-stream bench"}
        )


def latency_figure(results: Results) -> Figure:
    """Draw p50, p95, p99 and the slowest slice of every engine and size, a panel for each matrix.

    Args:
        results: What was measured; at least one engine and size.
    """
    use_private_cache()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = results.streamed
    matrices = sorted({row["matrix"] for row in rows})
    coils = sorted({row["coils"] for row in rows})
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    figure = Figure(figsize=(1.8 + 2.6 * len(matrices), 4.6))
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
    for axes, matrix in zip(panels, matrices, strict=True):
        for index, engine in enumerate(engines):
            shift = SPREAD * ((index + 0.5) / len(engines) - 0.5)
            mine = [r for r in rows if (r["matrix"], r["engine"]) == (matrix, engine)]
            places = [coils.index(row["coils"]) + shift for row in mine]
            _percentiles(axes, places, mine, f"C{index}", engine)
        for name, marker in zip(OTHERS, ("_", "x"), strict=True):
            _reference(axes, name, marker, matrix, coils, results.references)
        axes.set_title(f"{matrix} x {matrix}", fontsize=10)
        axes.set_xticks(range(len(coils)), [str(number) for number in coils])
        axes.set_xlim(-0.6, len(coils) - 0.4)
        axes.set_xlabel("coils")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.grid(axis="y", which="both", alpha=0.25)
    panels[0].set_ylabel("last readout sent to image received (ms)")
    marks = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.suptitle(
        f"{results.plan.slices} slices each: dot p50, thick to p95, thin to p99, triangle slowest",
        fontsize=10,
    )
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.legend(
        list(marks.values()), list(marks), loc="lower center", ncols=len(marks), fontsize=8
    )
    return figure


def _percentiles(
    axes: Any, places: list[float], rows: Sequence[Mapping[str, Any]], colour: str, engine: str
) -> None:
    """One engine: its usual latency as a dot, what is beyond as lines upwards."""
    if not rows:
        return
    p50, p95, p99, most = (
        [row[name] for row in rows] for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms")
    )
    axes.vlines(places, p50, p95, color=colour, linewidth=4, alpha=0.5)
    axes.vlines(places, p95, p99, color=colour, linewidth=1.2)
    axes.scatter(places, most, color=colour, marker="^", s=12, alpha=0.7)
    axes.scatter(places, p50, color=colour, s=22, label=engine, zorder=3)


def _reference(
    axes: Any,
    name: str,
    marker: str,
    matrix: int,
    coils: list[int],
    references: Sequence[Mapping[str, Any]],
) -> None:
    """Medians of another program that makes images of the same slices."""
    wanted = (matrix, *COMPARISONS[name])
    found = [
        r
        for r in references
        if (r["matrix"], r["by"], r["part"]) == wanted and r["ms"] and r["coils"] in coils
    ]
    if found:
        places, times = [coils.index(row["coils"]) for row in found], [row["ms"] for row in found]
        label = f"{found[0]['what']} (median)"
        axes.scatter(places, times, marker=marker, s=40, color="0.35", label=label, zorder=2)
