"""`chpnet-train compile`: makes TensorRT plans of a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chpnet_stream.cli.formatter import show
from chpnet_stream.engines.allowed import PLAN_ENGINES, table_rows

if TYPE_CHECKING:
    from chpnet_stream.engines.plan_key import PlanShape
    from chpnet_stream.network.weights import Model
    from chpnet_training.parity import Example

DEFAULT_SHAPES = ("1x64x64", "1x256x256", "4x512x512")


def _table() -> str:
    lines = []
    for engine, precision, targets, why in table_rows(PLAN_ENGINES):
        reason = f": {why}" if targets == "not offered" else ""
        lines.append(f"  {engine:<13} {precision:<5} {targets}{reason}")
    return "\n".join(lines)


@click.command("compile", epilog=f"\b\nPackage, precision and targets:\n{_table()}")
@click.argument("model")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp16",
    show_default=True,
    help="Arithmetic of the denoisers; data consistency is float32 always. int8 loses far more "
    "than the tolerance: about half a dB with chpnet-rt.",
)
@click.option(
    "--shapes",
    nargs=3,
    metavar="MIN OPT MAX",
    default=DEFAULT_SHAPES,
    show_default=True,
    help="Smallest, usual and largest input, each BATCHxROWSxCOLUMNS; three times the same for one "
    "matrix only.",
)
@click.option(
    "--target",
    metavar="sm_86|...",
    help="Compute capability of the GPU that will run it. [default: that of this machine's GPU]",
)
@click.option(
    "--package",
    type=click.Choice(["auto", *PLAN_ENGINES]),
    default="auto",
    show_default=True,
    help="auto: TensorRT for this machine's GPU where it is installed, else TensorRT for RTX.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the compiled model. [default: the card's own; ./NAME for an installed model]",
)
@click.option(
    "--data",
    "data",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    help="Fully sampled ISMRMRD scan to measure the quality on, too; repeatable.",
)
@click.option(
    "--calibrate",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    help="Fully sampled ISMRMRD scan for the scales of int8; repeatable. [default: "
    "simulated scans]",
)
@click.option(
    "--slices",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Simulated slices of the quality report, and of the calibration.",
)
@click.option(
    "--matrix",
    type=click.IntRange(48),
    help="Rows and columns of the simulated slices, a multiple of 8, inside --shapes. [default: "
    "192, or what of --shapes is nearest]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    metavar="DB",
    help="Largest mean loss of PSNR; another one than the table's is noted in the card. [default: "
    "fp32 0.005, fp16 and int8 0.05]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def command(
    model: str,
    precision: str,
    shapes: tuple[str, str, str],
    target: str | None,
    package: str,
    out: Path | None,
    data: tuple[Path, ...],
    calibrate: tuple[Path, ...],
    slices: int,
    matrix: int | None,
    tolerance: float | None,
    as_json: bool,
) -> None:
    """Compile MODEL (an installed model, or a card) for a kind of GPU.

    Writes one plan for each denoiser beside a card that names them, with their checksums and what
    they cost: the PSNR between their images and those of the float64 reference, and the quality
    lost on simulated heads (and on scans by --data). Beyond the tolerance nothing is written. On a
    machine whose GPU is the target the plans themselves are measured; elsewhere their graphs are,
    on the CPU, and the card says so.
    """
    from rich.console import Console

    from chpnet_stream.engines.plan_key import PlanShapes
    from chpnet_stream.errors import ConfigurationError
    from chpnet_stream.network.weights import MODELS, find_model
    from chpnet_training.compilation import choose_package, compile_model, example_shape
    from chpnet_training.parity import CALIBRATION_HEAD, VALIDATION_HEAD

    if matrix is not None and matrix % 8:
        raise ConfigurationError(f"--matrix: expected a multiple of 8, found {matrix}")
    found = find_model(model)
    multiple = found.card.student.multiple
    ranges = PlanShapes.parse(*shapes, multiple=multiple)
    shape = example_shape(ranges, matrix, multiple)
    chosen, wanted = choose_package(package, precision, _target(target))
    if out is None:
        out = Path(found.card.name) if found.folder == MODELS else found.folder
    begin = time.monotonic()
    terminal = Console(stderr=True)
    with terminal.status("") as status:
        made = compile_model(
            found,
            out,
            package=chosen,
            target=wanted,
            precision=precision,
            shapes=ranges,
            examples=_examples(found, VALIDATION_HEAD, slices, shape, data, simulated=True),
            calibration=_examples(
                found, CALIBRATION_HEAD, slices, shape, calibrate, simulated=not calibrate
            ),
            tolerance=tolerance,
            tell=lambda text: status.update(text),
        )
    record = made.record
    rows = {
        "card": str(made.card),
        "package": f"{record.package} {record.version}",
        "target": record.target,
        "precision": record.precision,
        "shapes": " ".join(record.shapes),
        "plans": list(record.files),
        "size_mb": made.bytes / 1e6,
        "key": record.key,
        "measured": record.measured_on,
        "images": made.parity.images,
        "output, worst image_db": made.parity.output_db,
        "output, mean_db": made.parity.output_mean_db,
        "quality of the reference_db": made.parity.reference_db,
        "quality lost, mean_db": made.parity.loss_db,
        "quality lost, worst image_db": made.parity.worst_loss_db,
        "tolerance_db": record.tolerance,
        "tolerance is the table's": not record.overridden,
        "in the plan cache": made.cached,
        "time_s": time.monotonic() - begin,
    }
    if as_json:
        rows = {**record.model_dump(mode="json"), "card": str(made.card), "cached": made.cached}
    show(rows, title="Compiled model", as_json=as_json)


def _target(text: str | None) -> str | None:
    """`sm_86` from `sm_86`, `sm86`, `8.6` or `86`.

    Raises:
        ConfigurationError: If it is no compute capability.
    """
    from chpnet_stream.errors import ConfigurationError

    if text is None:
        return None
    digits = text.lower().removeprefix("sm").removeprefix("_").replace(".", "", 1)
    if not digits.isdecimal() or not 2 <= len(digits) <= 3:
        raise ConfigurationError(f"--target: found '{text}', expected one such as sm_86 or 8.6")
    return f"sm_{digits}"


def _examples(
    model: Model,
    head: int,
    slices: int,
    shape: PlanShape,
    scans: tuple[Path, ...],
    *,
    simulated: bool,
) -> Callable[[], Sequence[Example]]:
    """What makes the images, when they are needed."""
    from chpnet_training.parity import measured_examples, simulated_examples

    def make() -> list[Example]:
        task = model.card.student.task
        made = simulated_examples(task, slices, head=head, matrix=shape) if simulated else []
        for path in scans:
            made += measured_examples(path, model.card)
        return made

    return make
