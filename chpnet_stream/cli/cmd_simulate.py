"""`chpnet-stream simulate`: writes a simulated scan of a head phantom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chpnet_stream.cli.formatter import show

if TYPE_CHECKING:
    from chpnet_stream.simulation.options import SimulationOptions
    from chpnet_stream.simulation.scan import SimulatedScan


class Pair(click.ParamType):
    """One number for both directions, or two as `YxX`."""

    name = "N or YxX"

    def __init__(self, number: type[int] | type[float]) -> None:
        self._number = number

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Two numbers (y, x) from text.

        Raises:
            click.BadParameter: If the text is neither one number nor two.
        """
        if isinstance(value, tuple):
            return value
        try:
            numbers = [self._number(part) for part in str(value).lower().split("x")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2):
            self.fail(f"{value!r} is neither a number nor two as in 256x192 (y x)", param, ctx)
        return numbers[0], numbers[-1]


class Snr(click.ParamType):
    """A number, or the word `none`."""

    name = "SNR"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """A number, or None for the word `none`.

        Raises:
            click.BadParameter: If the text is neither.
        """
        if isinstance(value, str) and value.lower() in ("none", "inf"):
            return None
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'none'", param, ctx)


@click.command("simulate")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--matrix",
    type=Pair(int),
    default="256",
    show_default=True,
    help="Image matrix; y is the phase-encode direction.",
)
@click.option(
    "--fov-mm", type=Pair(float), default="240", show_default=True, help="Field of view in mm."
)
@click.option("--slices", type=int, default=5, show_default=True, help="Number of slices.")
@click.option("--thickness-mm", type=float, default=4.0, show_default=True, help="Slice thickness.")
@click.option("--gap-mm", type=float, default=4.0, show_default=True, help="Gap between slices.")
@click.option(
    "--interleaved/--sequential",
    default=True,
    show_default=True,
    help="Slice order: 0 2 4 ... 1 3 5, or one after the other.",
)
@click.option("--coils", type=int, default=12, show_default=True, help="Number of receive coils.")
@click.option(
    "-R",
    "--acceleration",
    type=int,
    default=4,
    show_default=True,
    help="Measure every R-th phase-encode line.",
)
@click.option(
    "--calibration-lines",
    type=int,
    default=24,
    show_default=True,
    help="Fully sampled lines at the k-space centre.",
)
@click.option(
    "--calibration-mode",
    type=click.Choice(["embedded", "separate"]),
    default="embedded",
    show_default=True,
    help="Where the calibration lines are.",
)
@click.option(
    "--partial-fourier",
    type=float,
    default=1.0,
    show_default=True,
    help="Share of the phase-encode lines that is measured.",
)
@click.option(
    "--partial-echo",
    type=float,
    default=1.0,
    show_default=True,
    help="Share of the readout that is sampled.",
)
@click.option(
    "--oversampling", type=int, default=2, show_default=True, help="Readout oversampling."
)
@click.option(
    "--snr",
    type=Snr(),
    default="40",
    show_default=True,
    help="Mean signal in the head over the noise of one coil in a fully sampled image; "
    "'none' for no noise.",
)
@click.option(
    "--noise-scan/--no-noise-scan", default=True, show_default=True, help="Begin with a noise scan."
)
@click.option("--averages", type=int, default=1, show_default=True, help="Averages of each line.")
@click.option(
    "--repetitions", type=int, default=1, show_default=True, help="Repetitions of the whole scan."
)
@click.option("--contrasts", type=int, default=1, show_default=True, help="Echoes per excitation.")
@click.option("--bipolar", is_flag=True, help="Store odd echoes (or odd lines) backwards.")
@click.option(
    "--weighting",
    type=click.Choice(["t1", "t2"]),
    default="t1",
    show_default=True,
    help="Contrast of the head.",
)
@click.option(
    "--tilt-deg",
    type=float,
    nargs=3,
    default=(0.0, 0.0, 0.0),
    show_default=True,
    help="Turns the slices about x (left), y (back) and their normal.",
)
@click.option(
    "--centre-mm",
    type=float,
    nargs=3,
    default=(0.0, 0.0, 22.0),
    show_default=True,
    help="Middle of the slices, LPS.",
)
@click.option(
    "--line-interval-ms",
    type=float,
    default=10.0,
    show_default=True,
    help="Time between excitations.",
)
@click.option(
    "--dwell-us", type=float, default=5.0, show_default=True, help="Time per readout sample."
)
@click.option("--waveforms", is_flag=True, help="Add an ECG.")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Chooses head, coils, phase and noise."
)
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(out: Path, overwrite: bool, as_json: bool, **choices: Any) -> None:
    """Write a simulated scan of a head phantom to OUT, an ISMRMRD file.

    The truth (images without noise, coil maps, noise covariance) is inside, under dataset/truth.
    """
    from rich.console import Console
    from rich.progress import Progress

    from chpnet_stream.simulation.options import SimulationOptions
    from chpnet_stream.simulation.scan import simulate_scan

    options = SimulationOptions(**choices)
    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task("slices", total=options.slices)
        scan = simulate_scan(
            out,
            options,
            overwrite=overwrite,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    show(_summary(options, scan), title="Simulated scan", as_json=as_json)


def _summary(options: SimulationOptions, scan: SimulatedScan) -> dict[str, Any]:
    """What was written, by name; JSON types only."""
    calibration = int(options.calibrated_lines.sum())
    return {
        "file": str(scan.path),
        "size_mb": round(scan.path.stat().st_size / 1e6, 1),
        "slices": options.slices,
        "matrix": list(options.matrix),
        "fov_mm": list(options.fov_mm),
        "coils": options.coils,
        "acceleration": options.acceleration,
        "lines_per_slice": scan.imaging_lines,
        "calibration_lines": calibration,
        "calibration_mode": options.calibration_mode if calibration else None,
        "acquisitions": scan.acquisitions,
        "waveforms": scan.waveforms,
        "scan_time_s": round(scan.duration_s, 2),
        "snr": options.snr,
        "noise_sigma": scan.noise_sigma,
        "seed": options.seed,
    }
