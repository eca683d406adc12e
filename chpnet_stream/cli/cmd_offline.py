"""`chpnet-stream offline`: a scan in a file becomes images in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chpnet_stream.cli.formatter import show, show_list
from chpnet_stream.cli.progress import slices_bar
from chpnet_stream.cli.settings import setting_option

if TYPE_CHECKING:
    from chpnet_stream.offline import OfflineReport


@click.command("offline")
@click.argument("source", metavar="IN.h5", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="ISMRMRD file of the images. [default: IN_images.h5 beside the input]",
)
@click.option(
    "--group", default="dataset", show_default=True, help="HDF5 group of the scan in its file."
)
@setting_option("method")
@setting_option("model", metavar="NAME|FILE")
@setting_option("engine")
@setting_option("precision")
@setting_option("on_error")
@setting_option("dtype")
@setting_option("scale")
@setting_option("series")
@setting_option("virtual_coils")
@setting_option("image_matrix")
@setting_option("flip_rows")
@setting_option("flip_columns")
@click.option(
    "--png",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write every image as a PNG, all with one window.",
)
@click.option(
    "--compare",
    "compare_methods",
    is_flag=True,
    help="Write a picture of zero-filled, CG-SENSE and chpnet for the middle slice; with errors "
    "where the truth is known. A fully sampled scan is undersampled for it.",
)
@click.option(
    "--undersample",
    "acceleration",
    type=click.IntRange(2, 16),
    metavar="R",
    help="Keep every R-th line and 24 calibration lines of a fully sampled scan.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="CPU threads. [default: all cores]",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace existing output files, and pictures of single images in the folder of --png.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the closing table as JSON.")
def command(
    source: Path,
    out: Path | None,
    group: str,
    method: str,
    model: str,
    engine: str,
    precision: str,
    on_error: str,
    dtype: str,
    scale: int,
    series: int,
    virtual_coils: int,
    image_matrix: str,
    flip_rows: bool,
    flip_columns: bool,
    png: Path | None,
    compare_methods: bool,
    acceleration: int | None,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Reconstruct the scan IN.h5 (ISMRMRD) slice by slice.

    The images are written to /GROUP/image_1 of the output, as magnitudes in multiples of the
    noise's standard deviation (times --scale). The output has its name only when it is whole;
    what was made of a scan that fails midway is kept in OUT_incomplete.h5.
    """
    from chpnet_stream.offline import OfflineJob, check_outputs, run_offline
    from chpnet_stream.options import ReconstructionOptions
    from chpnet_stream.schema import text_of

    target = out or source.parent / f"{source.stem}_images.h5"
    settings = {
        "method": method,
        "model": model,
        "engine": engine,
        "precision": precision,
        "on_error": on_error,
        "scale": scale,
        "virtual_coils": virtual_coils,
        "series": series,
        "image_matrix": image_matrix,
        "flip_rows": flip_rows,
        "flip_columns": flip_columns,
    }
    job = OfflineJob(
        source,
        target,
        group,
        ReconstructionOptions.from_properties({n: text_of(v) for n, v in settings.items()}),
        dtype,
        overwrite,
        png,
        _comparison(target, png) if compare_methods else None,
        acceleration,
    )
    check_outputs(job)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    with slices_bar() as bar:
        task = bar.add_task("reconstructing", total=None)
        report = run_offline(job, lambda done, total: bar.update(task, completed=done, total=total))
    _print(job, report, as_json)


def _comparison(target: Path, png: Path | None) -> Path:
    name = f"{target.stem}_compare.png"
    return png / name if png is not None else target.with_name(name)


def _print(job: Any, report: OfflineReport, as_json: bool) -> None:
    session = report.session
    card = session.engine.card if session.engine is not None else None
    latency = session.metrics.latency()
    rows: dict[str, Any] = {
        "file": str(job.out),
        "slices": report.images,
        "matrix": list(report.matrix),
        "coils": report.coils,
        "virtual_coils": report.virtual_coils,
        "acceleration": round(report.acceleration, 2),
        "noise_level": session.reconstructor.calibration.noise_source,
        "method": dict(session.metrics.methods),
        "model": f"{card.name} {card.checksum}" if card else None,
        "engine": session.engine.name if session.engine else None,
        "latency_p50_ms": latency["p50"],
        "latency_p95_ms": latency["p95"],
        "latency_max_ms": latency["max"],
        "fallbacks": dict(session.metrics.fallbacks),
        "incomplete_slices": session.metrics.incomplete,
        "data_marks": session.metrics.marked,
        "comparison": str(job.comparison) if job.comparison else None,
    }
    scores = [
        {
            "method": s.method,
            "psnr_db": s.psnr,
            "ssim": s.ssim,
            "time_ms": s.milliseconds,
            "fallback": s.fallback,
        }
        for s in report.scores
    ]
    if as_json:
        show({**rows, "scores": scores, "reference": report.reference}, title="", as_json=True)
        return
    show({**rows, "fallbacks": rows["fallbacks"] or 0}, title="Reconstruction")
    if scores:
        against = f" against the {report.reference}" if report.reference else ""
        show_list(scores, title=f"One slice by each method{against}")
