"""What a precision costs: outputs against the float64 reference, and quality against the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chpnet_stream.engines.engine import Engine, Problem
from chpnet_stream.engines.plan_key import PlanShape
from chpnet_stream.engines.problems import mapped
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.engines.stand_in import stands_in
from chpnet_stream.errors import EngineError, InputError, ModelError
from chpnet_stream.network.card import ModelCard
from chpnet_stream.network.weights import Model
from chpnet_stream.scan.undersampling import undersample
from chpnet_training.dataset import collate
from chpnet_training.readers.phantoms import HEIGHTS_MM, read_phantoms
from chpnet_training.simulation import SimulationConfig, simulate_samples
from chpnet_training.superres import SuperresConfig, SuperresSample, superres_sample
from chpnet_training.validation import psnr_of

VALIDATION_HEAD = 9000
CALIBRATION_HEAD = 8000
"""Seeds of simulated heads that no recipe trains on."""

SCAN_FACTORS = (2, 4, 6)
SCAN_LINES = 24


@dataclass(frozen=True)
class Tolerance:
    """What a precision may cost.

    Attributes:
        output_db: Least PSNR of any output against the float64 reference's.
        loss_db: Largest mean loss of PSNR against the truth.
    """

    output_db: float
    loss_db: float


TOLERANCES = {
    "fp32": Tolerance(90.0, 0.005),
    "bf16": Tolerance(55.0, 0.05),
    "fp16": Tolerance(60.0, 0.05),
    "int8": Tolerance(35.0, 0.05),
}


@dataclass(frozen=True)
class Example:
    """A problem and its truth `batch channels y x`."""

    problem: Problem
    target: Tensor


@dataclass(frozen=True)
class Parity:
    """The report.

    Attributes:
        images: Images that were compared.
        output_db: Least PSNR of an output against the float64 reference's, of magnitudes.
        output_mean_db: Mean of these.
        loss_db: Mean loss of PSNR against the truth; below zero where it is a gain.
        worst_loss_db: Largest loss of one image.
        reference_db: Mean PSNR of the float64 reference against the truth.
    """

    images: int
    output_db: float
    output_mean_db: float
    loss_db: float
    worst_loss_db: float
    reference_db: float

    def numbers(self) -> dict[str, float]:
        """For a card, rounded."""
        return {name: round(float(value), 4) for name, value in asdict(self).items()}


def measure_parity(
    model: Model,
    engine: Engine,
    examples: Sequence[Example],
    progress: Callable[[int, int], None] | None = None,
    references: Sequence[Tensor] | None = None,
) -> Parity:
    """Compare an engine with the float64 reference in PyTorch on the CPU.

    Args:
        model: What both run.
        engine: The engine in question.
        examples: Problems on the CPU, float32.
        progress: Called with the images done and in all.
        references: `reference_images` of the examples, where there are several engines.

    Raises:
        EngineError: If it fails, or another engine makes an image in its place.
    """
    if references is None:
        references = reference_images(model, examples)
    outputs, losses, qualities = [], [], []
    for number, (example, expected) in enumerate(zip(examples, references, strict=True)):
        problem = mapped(example.problem, lambda tensor: tensor.to(engine.device))
        found = engine.run(problem).cpu().double()
        if stands_in(engine):
            raise EngineError(
                f"found an image {tuple(problem.start.shape)} made by {engine.name}; expected all "
                "by the engine that is measured"
            )
        target = example.target.double()
        reference = psnr_of(expected, target)
        outputs.append(psnr_of(found, expected))
        qualities.append(reference)
        losses.append(reference - psnr_of(found, target))
        if progress is not None:
            progress(number + 1, len(examples))
    output, loss, reference = (torch.cat(parts) for parts in (outputs, losses, qualities))
    return Parity(
        len(output),
        float(output.min()),
        float(output.mean()),
        float(loss.mean()),
        float(loss.max()),
        float(reference.mean()),
    )


def reference_images(model: Model, examples: Sequence[Example]) -> list[Tensor]:
    """Images of the float64 reference, `batch channels y x`."""
    exact = PyTorchEngine(model, torch.device("cpu"), torch.float64)
    return [exact.run(mapped(example.problem, _double)) for example in examples]


def refuse(parity: Parity, precision: str, tolerance: float | None = None) -> None:
    """Refuse what costs too much.

    Args:
        parity: The report.
        precision: Whose tolerance holds.
        tolerance: Another largest mean loss, in dB.

    Raises:
        ModelError: As said; not finite numbers are refused as well.
    """
    limit = TOLERANCES[precision]
    loss = limit.loss_db if tolerance is None else tolerance
    if not parity.output_db >= limit.output_db:
        raise ModelError(
            f"{precision}: found outputs {parity.output_db:.1f} dB from the float64 reference, "
            f"expected at least {limit.output_db:.0f} dB; nothing was written"
        )
    if not parity.loss_db <= loss:
        raise ModelError(
            f"{precision}: found a loss of quality of {parity.loss_db:.3f} dB (one image: "
            f"{parity.worst_loss_db:.3f} dB), expected at most {loss:g} dB; nothing was written. "
            "Take a finer precision, or allow it by --tolerance"
        )


def _double(tensor: Tensor) -> Tensor:
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def simulated_examples(
    task: str, count: int, *, head: int = VALIDATION_HEAD, matrix: int | PlanShape = 192
) -> list[Example]:
    """Whole slices of simulated heads, by the simulation that trains networks.

    Args:
        task: `kspace` or `superres`.
        count: How many images; more where they come in batches that don't divide it.
        head: Seed of the first head.
        matrix: Rows and columns; or the batch of each example, too.
    """
    shape = PlanShape(1, matrix, matrix) if isinstance(matrix, int) else matrix
    count = -(-count // shape.batch)
    heads = range(head, head + -(-count // len(HEIGHTS_MM)))
    size = max(shape.rows, shape.columns)
    images = list(read_phantoms(heads, size=max(size, 64)))[:count]
    scan = SimulationConfig(
        matrix_y=(shape.rows, shape.rows),
        matrix_x=(shape.columns, shape.columns),
        multiple=1,
        strip=shape.columns,
        strips=1,
    )
    finer = SuperresConfig(matrix=-(-size // 8) * 8)  # of which the middle is kept
    factors = [f for f in finer.factors if not (shape.rows % f or shape.columns % f)]
    examples = []
    for number, image in enumerate(images):
        rng = np.random.default_rng([head, number])
        samples: list[Any] = []
        for _ in range(shape.batch):
            if task == "superres":
                factor = factors[number % len(factors)]
                sample = superres_sample(image.magnitude, finer, factor, rng)
                samples.append(_cut(sample, shape))
            else:
                samples += simulate_samples(image.magnitude, scan, rng)
        batch = collate(samples)
        problem = Problem(batch.start, batch.adjoint, batch.normal, batch.noise)
        examples.append(Example(problem, batch.target))
    return examples


def _cut(sample: SuperresSample, shape: PlanShape) -> SuperresSample:
    """The middle of an image, whole measured pixels of it."""
    factor = sample.factor
    above, left = (
        (have - wanted) // factor // 2
        for have, wanted in zip(sample.target.shape, (shape.rows, shape.columns), strict=True)
    )
    low = sample.low[above : above + shape.rows // factor, left : left + shape.columns // factor]
    above, left = above * factor, left * factor
    target = sample.target[above : above + shape.rows, left : left + shape.columns]
    return replace(sample, target=target, low=low)


class _Catcher:
    """An engine that keeps what it is given."""

    name = "none"
    device = torch.device("cpu")

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self.problems: list[Problem] = []

    def run(self, problem: Problem) -> Tensor:
        """The image that the network would start from."""
        self.problems.append(problem)
        return problem.start


def measured_examples(
    path: Path, card: ModelCard, factors: Sequence[int] = SCAN_FACTORS, group: str = "dataset"
) -> list[Example]:
    """Slices of a fully sampled scan, undersampled; the truth is the combination of all lines.

    Args:
        path: ISMRMRD file.
        card: Of the model, for `kspace`.
        factors: Every how manieth line is kept, beside 24 lines around the centre.
        group: HDF5 group of the scan.

    Raises:
        InputError: If it can't be read, is not fully sampled, or the model is for another task.
    """
    from chpnet_stream.reconstruction import SliceReconstructor
    from chpnet_training.evaluation import read_scan

    if card.student.task != "kspace":
        raise InputError(
            f"{path}: found a scan for a model of the task '{card.student.task}', expected one for "
            "'kspace'; leave the scan out"
        )
    noise, slices = read_scan(path, group)
    examples = []
    for data in slices:
        for factor in factors:
            short = undersample(data, factor, SCAN_LINES)
            catcher = _Catcher(card)
            reconstructor = SliceReconstructor(noise, catcher)
            reconstructor(short)
            complete = replace(
                data,
                calibration=short.calibration,
                calibrated=short.calibrated,
                calibration_version=short.calibration_version,
            )
            reconstructor(complete)
            if len(catcher.problems) != 2:
                raise InputError(f"{path}: a slice gives no coil maps; leave the scan out")
            examples.append(Example(catcher.problems[0], catcher.problems[1].adjoint))
    return examples
