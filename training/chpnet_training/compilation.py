"""From a model to TensorRT plans beside its card, with the report of what they cost in quality."""

from __future__ import annotations

import copy
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from chpnet_stream.engines.allowed import PLAN_ENGINES, RTX_TARGETS, check_allowed
from chpnet_stream.engines.engine import Engine, Problem, run_network
from chpnet_stream.engines.graphs import replace_denoisers
from chpnet_stream.engines.onnx import OnnxEngine
from chpnet_stream.engines.plan_builder import PlanBuilder, timing_file
from chpnet_stream.engines.plan_key import PlanKey, PlanShape, PlanShapes
from chpnet_stream.engines.plan_store import PlanStore, plan_cache
from chpnet_stream.engines.tensorrt import TensorRTEngine, build_plans, plan_key, target_of
from chpnet_stream.engines.tensorrt_package import TensorRTPackage, load_package
from chpnet_stream.engines.trust import untrusted
from chpnet_stream.errors import (
    ConfigurationError,
    EngineError,
    ModelError,
    OutputError,
    OutputExistsError,
)
from chpnet_stream.network.card import PlanRecord
from chpnet_stream.network.weights import Model, check_file, find_model, load_student
from chpnet_stream.whole_file import write_whole
from chpnet_training.parity import TOLERANCES, Example, Parity, measure_parity, refuse
from chpnet_training.quantize import quantize_model

Tell = Callable[[str], None]

DEFAULT_MATRIX = 192
"""Rows and columns of the simulated images of the report."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compiled:
    """What was made: the card, its new record, and what the plans cost."""

    card: Path
    record: PlanRecord
    parity: Parity
    bytes: int
    cached: bool


def this_gpu() -> str | None:
    """Compute capability of the GPU of this machine; None where there is none."""
    return target_of(torch.device("cuda")) if torch.cuda.is_available() else None


def choose_package(package: str, precision: str, target: str | None) -> tuple[TensorRTPackage, str]:
    """The package and the target, checked against the table and against each other.

    Args:
        package: One of `PLAN_ENGINES`, or "auto": TensorRT for the GPU of this machine where it is
            installed, else TensorRT for RTX.
        precision: What is wanted.
        target: Compute capability, or None for the GPU of this machine.

    Raises:
        ConfigurationError: If the table or the machine doesn't allow it.
        EngineError: If the package is not installed.
    """
    here = this_gpu()
    wanted = target or here
    if wanted is None:
        raise ConfigurationError(
            "expected --target on a machine without a GPU, found none; take one of "
            f"{' '.join(RTX_TARGETS)}"
        )
    if package != "auto":
        _check(package, precision, wanted, here)
        return load_package(package), wanted
    reasons = []
    for name in PLAN_ENGINES:
        try:
            _check(name, precision, wanted, here)
            return load_package(name), wanted
        except (ConfigurationError, EngineError) as error:
            reasons.append(error)
    kind = ConfigurationError if isinstance(reasons[-1], ConfigurationError) else EngineError
    raise kind("; ".join(str(error) for error in reasons))


def _check(package: str, precision: str, target: str, here: str | None) -> None:
    check_allowed(package, precision, target)
    if package == "tensorrt" and target != here:
        found = f"{here} here" if here else "no GPU here"
        raise ConfigurationError(
            f"tensorrt compiles for the GPU of this machine only: expected {target}, found "
            f"{found}; take --package tensorrt-rtx, or compile on that machine"
        )


def compile_model(
    model: Model,
    out: Path,
    *,
    package: TensorRTPackage,
    target: str,
    precision: str,
    shapes: PlanShapes,
    examples: Callable[[], Sequence[Example]],
    calibration: Callable[[], Sequence[Example]],
    tolerance: float | None = None,
    tell: Tell = lambda text: None,
) -> Compiled:
    """Compile a model, measure what that costs, and write plans and card.

    Nothing is written before the report is good; the card is written last. The plan cache of this
    machine gets the plans, too, if they are for its GPU.

    Args:
        model: The model.
        out: Folder of the compiled model; a copy of the model is made where it is not its own.
        package: What compiles.
        target: Compute capability.
        precision: Of the denoisers.
        shapes: Smallest, usual, largest input.
        examples: Makes the images of the report; their matrices must be inside `shapes`.
        calibration: Makes the images for the scales of int8.
        tolerance: Another largest mean loss than the table's, in dB.
        tell: Called with what is being done.

    Raises:
        ModelError: If the model is damaged, or the report is beyond the tolerance.
        ConfigurationError: If the plans can't make an image of the report.
        EngineError: If it can't be compiled.
        OutputExistsError: If another model of this name is in `out`.
        OutputError: If the folder can't be written.
    """
    _without_plans(model).verify()  # plans that are gone are what may be wanted anew
    _check_folder(model, out)
    with tempfile.TemporaryDirectory(prefix="chpnet-compile-") as folder:
        staged = _staged(model, Path(folder))
        tell("making the images of the report")
        images = list(examples())
        _check_inside(images, shapes, model.card.student.multiple)
        if precision == "int8":
            tell("calibrating int8")
            graphs = quantize_model(staged, [example.problem for example in calibration()])
            staged = _with_int8(staged, graphs)
        builder = PlanBuilder(
            package,
            target,
            shapes,
            fold=model.card.student.unshuffle,
            timings=timing_file(plan_cache(), package, target),
        )
        tell(f"compiling {len(staged.card.onnx_sha256)} graphs for {target}")
        plans = build_plans(staged, builder, precision)
        key = plan_key(staged, package, target, precision, shapes)
        tell("measuring parity")
        parity, measured_on = _report(staged, key, plans, shapes, images)
        refuse(parity, precision, tolerance)
        limit = TOLERANCES[precision].loss_db
        record = PlanRecord(
            key=key.digest,
            package=package.name,
            version=package.version,
            target=target,
            precision=precision,
            shapes=shapes.texts,
            files={},
            parity=parity.numbers(),
            measured_on=measured_on,
            tolerance=limit if tolerance is None else tolerance,
            overridden=tolerance is not None and tolerance != limit,
        )
        tell("writing")
        card, record = _write(staged, out, key, plans, record)
        cached = target == this_gpu() and _kept(key, plans)
    return Compiled(card, record, parity, sum(len(plan) for plan in plans), cached)


def example_shape(shapes: PlanShapes, matrix: int | None, multiple: int) -> PlanShape:
    """Batch, rows and columns of simulated images for the report.

    Args:
        shapes: What the plans are made for.
        matrix: Rows and columns, or None: `DEFAULT_MATRIX`, or what is nearest to that.
        multiple: What the network pads rows and columns to a multiple of.

    Raises:
        ConfigurationError: If plans of these shapes can't make such an image.
    """
    least, most = shapes.least, shapes.most
    if matrix is None:
        rows, columns = (
            min(max(DEFAULT_MATRIX, low), high)
            for low, high in ((least.rows, most.rows), (least.columns, most.columns))
        )
        return PlanShape(least.batch, rows, columns)
    if not shapes.hold(least.batch, matrix, matrix, multiple):
        raise ConfigurationError(
            f"--matrix: expected a matrix inside --shapes, from {least.rows} x {least.columns} to "
            f"{most.rows} x {most.columns}, found {matrix} x {matrix}; leave it away"
        )
    return PlanShape(least.batch, matrix, matrix)


def _check_inside(examples: Sequence[Example], shapes: PlanShapes, multiple: int) -> None:
    """Refuse images that the plans can't make: PyTorch would make them, and be measured."""
    for example in examples:
        batch, _, rows, columns = example.problem.start.shape
        if not shapes.hold(batch, rows, columns, multiple):
            raise ConfigurationError(
                f"found a slice of {rows} x {columns} (batch {batch}) to measure the quality on, "
                f"expected such from {shapes.least} to {shapes.most}; leave that scan out, or "
                "compile for it, too (--shapes)"
            )


def _kept(key: PlanKey, plans: list[bytes]) -> bool:
    """Whether the plan cache has them, too; the plans beside the card do without."""
    try:
        PlanStore(plan_cache()).write(key, plans)
    except OutputError as error:
        logger.warning("the plans are beside the card only: %s", error)
        return False
    return True


def _check_folder(model: Model, out: Path) -> None:
    """Refuse a folder with another model of the same name; warn of one that nobody trusts."""
    path = out / f"{model.card.name}.json"
    fault = untrusted(out) if out.is_dir() else None
    if fault is not None:
        logger.warning("%s: plans there would not be used: %s", out, fault)
    if path.exists():
        found = find_model(path).card
        if found.weights_sha256 != model.card.weights_sha256:
            raise OutputExistsError(
                f"{path}: expected the card of {model.card.name} ({model.card.checksum}), found "
                f"another model of that name ({found.checksum}); choose another --out"
            )


def _without_plans(model: Model) -> Model:
    return Model(model.card.model_copy(update={"plans": ()}), model.folder)


def _whole(model: Model, record: PlanRecord) -> bool:
    """Whether plans of another kind beside a card are there; told of by a warning, if not."""
    try:
        for name, checksum in record.files.items():
            check_file(model.folder / name, checksum)
    except ModelError as error:
        kind = f"{record.package} {record.precision} {record.target}"
        logger.warning("the card no longer names plans (%s): %s", kind, error)
        return False
    return True


def _staged(model: Model, folder: Path) -> Model:
    """A copy whose files may be added to; without plans, which only their folder needs."""
    for path in _without_plans(model).files():
        shutil.copy(path, folder)
    return Model(model.card, folder)


def _with_int8(model: Model, graphs: list[bytes]) -> Model:
    for i, graph in enumerate(graphs):
        write_whole(model.onnx(i, "int8"), graph)
    sums = tuple(hashlib.sha256(graph).hexdigest() for graph in graphs)
    return Model(model.card.model_copy(update={"int8_sha256": sums}), model.folder)


def _report(
    model: Model, key: PlanKey, plans: list[bytes], shapes: PlanShapes, examples: list[Example]
) -> tuple[Parity, str]:
    """Parity of the plans on a GPU that can run them, else of their graphs on the CPU."""
    if key.target == this_gpu():
        device = torch.device("cuda")
        cache = model.folder / "plans"
        PlanStore(cache).write(key, plans)
        engine: Engine = TensorRTEngine(
            model,
            device,
            package=key.package,
            precision=key.precision,
            shapes=shapes,
            cache=cache,
            build=False,
        )
        where = f"the plans on {torch.cuda.get_device_name(device)}"
        return measure_parity(model, engine, examples), where
    if key.precision != "fp16":
        engine = OnnxEngine(model, precision=key.precision)
        where = f"the {key.precision} graphs in ONNX Runtime on a CPU; the plans were not run"
        return measure_parity(model, engine, examples), where
    # ONNX Runtime computes much of a half-precision graph in float32, which flatters it
    graphs = measure_parity(model, OnnxEngine(model, precision="fp16"), examples[:1])
    refuse(graphs, key.precision, float("inf"))
    where = (
        "the fp16 denoisers in PyTorch on a CPU, every activation rounded (their graphs were run "
        "in ONNX Runtime on one image); the plans were not run"
    )
    return measure_parity(model, HalfEngine(model), examples), where


class HalfEngine:
    """Half precision on the CPU: slow, and rounded after every layer, as on a GPU."""

    def __init__(self, model: Model) -> None:
        self.name = "pytorch-cpu-fp16"
        self.card = model.card
        self.device = torch.device("cpu")
        self.student = load_student(model)
        pending = iter(list(self.student.denoisers))
        replace_denoisers(self.student, model, "fp16", lambda *_: _HalfGraph(next(pending)))

    def run(self, problem: Problem) -> Tensor:
        """See `Engine.run`."""
        return run_network(self.name, self.student, problem)


class _HalfGraph:
    """See `engines.graphs.Graph`."""

    def __init__(self, denoiser: nn.Module) -> None:
        self.denoiser = copy.deepcopy(denoiser).half()

    def __call__(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        half = None if state is None else state.half()
        image, features = self.denoiser(x.half(), half)
        return image.float(), None if state is None else features.float()


def _write(
    staged: Model, out: Path, key: PlanKey, plans: list[bytes], record: PlanRecord
) -> tuple[Path, PlanRecord]:
    """Plans, then graphs and weights that are not there, then the card."""
    name = staged.card.name
    stem = PlanStore.stem_beside(name, key)
    try:
        out.mkdir(parents=True, exist_ok=True, mode=0o755)  # plans that others write are not used
    except OSError as error:
        raise OutputError(f"{out}: expected a folder to write to: {error.strerror}") from error
    files = PlanStore(out).write(key, plans, stem)
    record = record.model_copy(update={"files": files})
    path = out / f"{name}.json"
    kept: tuple[PlanRecord, ...] = ()
    int8 = staged.card.int8_sha256
    if path.exists():
        before = find_model(path)
        others = (p for p in before.card.plans if PlanStore.stem_beside(name, p) != stem)
        kept = tuple(record for record in others if _whole(before, record))
        int8 = int8 or before.card.int8_sha256
    for source in staged.files():
        target = out / source.name
        if source.is_file() and (not target.exists() or ".int8." in source.name):
            write_whole(target, source.read_bytes())
    card = staged.card.model_copy(update={"plans": (*kept, record), "int8_sha256": int8})
    write_whole(path, card.model_dump_json(indent=2) + "\n")
    made = find_model(path)
    try:
        made.verify()
    except ModelError as error:
        raise ModelError(
            f"{path}: the model was written but can't be read back: {error}"
        ) from error
    return path, record
