"""TensorRT and TensorRT for RTX: the denoisers as plans, everything around them in PyTorch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from chpnet_stream.engines.allowed import check_allowed
from chpnet_stream.engines.cuda_runner import CudaRunner
from chpnet_stream.engines.engine import Problem, first_line, run_network
from chpnet_stream.engines.failures import FOREIGN, NoMemoryError, NoPlansError, failure
from chpnet_stream.engines.graphs import replace_denoisers
from chpnet_stream.engines.half import half_graph
from chpnet_stream.engines.kept_file import KeptFile
from chpnet_stream.engines.loaded_later import LoadedLater
from chpnet_stream.engines.plan_builder import PlanBuilder, timing_file
from chpnet_stream.engines.plan_key import PlanKey, PlanShapes
from chpnet_stream.engines.plan_store import PlanStore, plan_cache
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.engines.run_name import RunName
from chpnet_stream.engines.stand_in import instead_name
from chpnet_stream.engines.tensorrt_package import TensorRTPackage, load_package
from chpnet_stream.errors import EngineError, OutputError
from chpnet_stream.network.chpnet import Student
from chpnet_stream.network.weights import Model, load_student

DEFAULT_SHAPES = ("1x64x64", "1x256x256", "4x512x512")
"""Smallest, usual and largest input of plans that are made when an engine is loaded."""

MOST_NEAR = 3
"""Plans for another use that a message names."""

logger = logging.getLogger(__name__)


def target_of(device: torch.device) -> str:
    """Compute capability of a GPU, as `sm_86`."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def _usable_target(package: str, device: torch.device) -> str:
    """Compute capability of a GPU that PyTorch can use.

    Raises:
        EngineError: If it is none.
    """
    if device.type != "cuda" or not torch.cuda.is_available():
        raise EngineError(
            f"{package}: expected a GPU that PyTorch can use, found "
            f"{'none' if device.type == 'cuda' else f'the device {device}'}"
        )
    return target_of(device)


def plan_key(
    model: Model, package: TensorRTPackage, target: str, precision: str, shapes: PlanShapes
) -> PlanKey:
    """Key of a model's plans."""
    source = "int8" if precision == "int8" else "fp32"
    return PlanKey(
        model.card.graph_sums(source),
        package.name,
        package.version,
        target,
        precision,
        shapes.texts,
    )


def kept_plans(model: Model, key: PlanKey, cache: Path | None = None) -> Iterator[list[bytes]]:
    """Plans that were made before: those beside the model's card, then those in the cache.

    Args:
        model: The model.
        key: What is wanted.
        cache: Folder of the cache; by default the user's.
    """
    for record in model.card.plans:
        if record.key == key.digest:
            stem = PlanStore.stem_beside(model.card.name, record)
            found = PlanStore(model.folder).read(key, stem)
            if found is not None:
                yield found
    found = PlanStore(cache or plan_cache()).read(key)
    if found is not None:
        yield found


def find_plans(model: Model, key: PlanKey, cache: Path | None = None) -> list[bytes] | None:
    """The first of `kept_plans`; None for none."""
    return next(kept_plans(model, key, cache), None)


def known_shapes(model: Model, package: TensorRTPackage, target: str, precision: str) -> PlanShapes:
    """Shapes of the plans beside the card that are for this use, else `DEFAULT_SHAPES`.

    They may be of another version: plans that are made anew are for the same matrices.
    """
    for record in model.card.plans:
        if (record.package, record.target, record.precision) == (package.name, target, precision):
            return PlanShapes.parse(*record.shapes)
    return PlanShapes.parse(*DEFAULT_SHAPES)


def build_plans(model: Model, builder: PlanBuilder, precision: str) -> list[bytes]:
    """Compile all denoisers of a model.

    Raises:
        ModelError: If it has no graphs of that precision.
        EngineError: If one can't be compiled.
    """
    plans = []
    for name, content in model.graphs("int8" if precision == "int8" else "fp32"):
        graph = half_graph(content) if precision == "fp16" else content
        plans.append(builder.build(name, graph))
    return plans


class TensorRTEngine:
    """Runs the convolutions as TensorRT plans on a GPU.

    Plans of the model for this GPU, version and precision are looked for beside its card and in the
    cache, and made where there are none; that takes seconds with TensorRT for RTX and up to minutes
    with TensorRT. Data consistency stays in PyTorch, in float32. A matrix that the plans were not
    made for runs in PyTorch on the same GPU; the first one is told of by a warning, and `name` says
    what made the last image of the thread that asks.

    Plans that don't load are told of, and the next ones are tried: beside the card, in the cache,
    made anew. Where it is memory that is short they may be good, and nothing is made.

    Args:
        model: The model to load.
        device: The GPU.
        package: `tensorrt` or `tensorrt-rtx`.
        precision: "fp16", "fp32", or "int8" where the model has such graphs.
        shapes: What plans are made for; by default as those beside the card, else
            `DEFAULT_SHAPES`.
        cache: Folder of plans; by default `plan_store.plan_cache()`.
        build: Whether plans may be made; else there must be some.
        record: Whether a matrix that comes again is run as one CUDA graph.

    Raises:
        NotInstalledError: If the package is missing.
        NoPlansError: If there are no plans, and none may be made.
        NoMemoryError: If the GPU has no memory for them.
        EngineError: If there is no GPU, or plans can't be made or loaded.
        ConfigurationError: If the package can't do this precision on this GPU.
        ModelError: If the model's files are damaged.
    """

    def __init__(
        self,
        model: Model,
        device: torch.device,
        *,
        package: str = "tensorrt",
        precision: str = "fp16",
        shapes: PlanShapes | None = None,
        cache: Path | None = None,
        build: bool = True,
        record: bool = True,
    ) -> None:
        self.package = load_package(package)
        target = _usable_target(package, device)
        check_allowed(package, precision, target)
        self.precision = precision
        self.model = model
        self.card = model.card
        self.device = device
        self.plain_name = f"{package}-{precision}"
        self.shapes = shapes or known_shapes(model, self.package, target, precision)
        self.multiple = model.card.student.multiple
        self.runtime = self.package.runtime()
        student = load_student(model).to(device)
        key = plan_key(model, self.package, target, precision, self.shapes)
        self._load(student, key, cache or plan_cache(), build)
        self.runner = CudaRunner(student, device, record=record)
        self._made_by = RunName(self.plain_name)
        self._spare = LoadedLater("pytorch", lambda: PyTorchEngine(model, device))
        self._told = False

    @property
    def name(self) -> str:
        """What made this thread's last image."""
        return self._made_by.get()

    def run(self, problem: Problem) -> Tensor:
        """See `Engine.run`."""
        if self._holds(problem):
            self._made_by.set(self.plain_name)
            return run_network(self.plain_name, self.runner, problem)
        spare = self._spare.get()
        self._made_by.set(instead_name(spare.name, self.plain_name))
        return spare.run(problem)

    def _holds(self, problem: Problem) -> bool:
        """Whether the plans were made for such a matrix; told of by a warning once, if not."""
        batch, _, rows, columns = problem.start.shape
        if self.shapes.hold(batch, rows, columns, self.multiple):
            return True
        if not self._told:
            self._told = True
            logger.warning(
                "%s: found a matrix of %d x %d (batch %d), expected one from %s to %s; PyTorch "
                "on the GPU takes such: compile the model for it (chpnet-train compile --shapes)",
                self.plain_name,
                *(rows, columns, batch, self.shapes.least, self.shapes.most),
            )
        return False

    def _load(self, student: Student, key: PlanKey, cache: Path, build: bool) -> None:
        """Put the first plans that load where the denoisers are."""
        failed = ""  # words: the exception would keep the plans that did load
        for plans in kept_plans(self.model, key, cache):
            try:
                self._put(student, plans, key, cache)
                return
            except NoMemoryError:
                raise
            except EngineError as error:
                failed = str(error)
                logger.warning("%s; other plans are looked for", failed)
        if not build:
            raise EngineError(failed) if failed else self._no_plans(key, cache)
        self._put(student, self._make(key, cache), key, cache)

    def _no_plans(self, key: PlanKey, cache: Path) -> NoPlansError:
        stores = (PlanStore(self.model.folder), PlanStore(cache))
        near = list(dict.fromkeys(text for store in stores for text in store.near(key)))
        found = f"those of {' and of '.join(near[:MOST_NEAR])}" if near else "none"
        name = self.card.name
        return NoPlansError(
            f"{self.plain_name}: expected plans of {name} for this GPU ({key.target}, "
            f"{key.package} {key.version}), found {found}; --engine {key.package} makes them when "
            "it is loaded, `chpnet-train compile` beforehand: what that made is found by the card "
            f"that it wrote (--model ./{name}/{name}.json)"
        )

    def _make(self, key: PlanKey, cache: Path) -> list[bytes]:
        logger.warning(
            "%s: no plans of %s for this GPU (%s); they are made now, which can take minutes",
            *(self.plain_name, self.card.name, key.target),
        )
        builder = PlanBuilder(
            self.package,
            key.target,
            self.shapes,
            fold=self.card.student.unshuffle,
            timings=timing_file(cache, self.package, key.target),
        )
        with torch.cuda.device(self.device):
            plans = build_plans(self.model, builder, self.precision)
        try:
            PlanStore(cache).write(key, plans)
        except OutputError as error:
            logger.warning("%s; they are made again at the next start", error)
        return plans

    def _put(self, student: Student, plans: list[bytes], key: PlanKey, cache: Path) -> None:
        """Put plans where the denoisers are."""
        pending = iter(enumerate(plans))

        def load(name: str, content: bytes) -> _Plan:
            i, plan = next(pending)
            compiled = cache / f"{PlanStore.stem(key)}.{i}.kernels"
            with torch.cuda.device(self.device):
                return _Plan(self.package, self.runtime, name, plan, compiled)

        replace_denoisers(student, self.model, self.precision, load)


class _Plan:
    """One loaded plan; see `engines.graphs.Graph`.

    It runs on PyTorch's current stream and waits for nothing. Its outputs are memory of PyTorch's
    allocator, which has it at hand from the call before; a recorded CUDA graph keeps its own.

    Args:
        package: What made the plan.
        runtime: Of the package.
        name: Of the graph, for messages.
        plan: Checked content of its file.
        compiled: File of kernels compiled at run time (TensorRT for RTX); read and written.
    """

    def __init__(
        self, package: TensorRTPackage, runtime: Any, name: str, plan: bytes, compiled: Path
    ) -> None:
        self.package = package
        self.name = name
        package.complaint()  # of something else before
        self.engine = runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise failure(f"{package.name}: can't load the plan of {name}", self._reason())
        self.compiled = KeptFile(compiled, "compiled kernels")
        self.kernels: Any = None
        self.config: Any = None
        self._kept_for: set[tuple[int, ...]] = set()
        self._can_keep = True
        self.context = self._make_context()
        if self.context is None:
            raise NoMemoryError(f"{package.name}: no memory to run {name}: {self._reason()}")
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        mode = package.module.TensorIOMode.OUTPUT
        self.outputs = [n for n in names if self.engine.get_tensor_mode(n) == mode]
        self.shape: tuple[int, ...] = ()

    def __call__(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        feeds = {"x": x} if state is None else {"x": x, "state": state}
        fresh = tuple(x.shape) != self.shape
        if fresh:
            self.shape = ()  # none that fits, if only one of the inputs is taken
            for name, tensor in feeds.items():
                if not self.context.set_input_shape(name, tuple(tensor.shape)):
                    raise EngineError(f"{self.package.name}: {self.name}: {self._reason()}")
            self.shape = tuple(x.shape)
        found = {n: x.new_empty(tuple(self.context.get_tensor_shape(n))) for n in self.outputs}
        for name, tensor in (*feeds.items(), *found.items()):
            self.context.set_tensor_address(name, tensor.data_ptr())
        stream = torch.cuda.current_stream(x.device).cuda_stream
        if not self.context.execute_async_v3(stream):
            raise failure(f"{self.package.name}: {self.name} failed", self._reason())
        if fresh and self.kernels is not None:
            self._keep_kernels()
        return found["image"], None if state is None else found["features"]

    def _make_context(self) -> Any:
        """The context; with TensorRT for RTX its kernels are compiled for each shape at once.

        By default it would compile them on another thread meanwhile, and a CUDA graph would go on
        using the general ones. TensorRT has all its kernels in the plan: newer versions of it have
        a runtime configuration, too, but neither such strategies nor such a cache.
        """
        strategies = getattr(self.package.module, "DynamicShapesKernelSpecializationStrategy", None)
        if strategies is None:
            return self.engine.create_execution_context()
        # Both are kept as long as the context, which may ask them for more.
        config = self.config = self.engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        self.kernels = self._kept_kernels(config)
        config.set_runtime_cache(self.kernels)
        return self.engine.create_execution_context(config)

    def _kept_kernels(self, config: Any) -> Any:
        """Those of the last start where they fit, else none yet."""
        kernels = config.create_runtime_cache()
        content = self.compiled.read()
        if not content:
            return kernels
        try:
            if kernels.deserialize(content):
                return kernels
            fault = "of another GPU, driver or version"
        except FOREIGN as error:
            fault = first_line(error)
        self.compiled.refuse(fault)
        return config.create_runtime_cache()

    def _keep_kernels(self) -> None:
        """For the next start of the program; a dry run pays for it, not a slice.

        Once for each shape: scans of several matrices may take turns.
        """
        if self._can_keep and self.shape not in self._kept_for:
            self._kept_for.add(self.shape)
            self._can_keep = self.compiled.take(self.kernels.serialize)

    def _reason(self) -> str:
        return self.package.complaint() or "it gives no reason"
