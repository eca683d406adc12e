"""From an ONNX graph to a TensorRT plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chpnet_stream.engines.engine import first_line
from chpnet_stream.engines.failures import FOREIGN, failure
from chpnet_stream.engines.kept_file import KeptFile
from chpnet_stream.engines.plan_key import PlanShape, PlanShapes
from chpnet_stream.engines.tensorrt_package import TensorRTPackage
from chpnet_stream.errors import EngineError


class PlanBuilder:
    """Compiles the graphs of denoisers.

    Networks are strongly typed: the arithmetic is that of the graph. TF32 is off, so that a float32
    graph means float32.

    Args:
        package: What compiles.
        target: Compute capability, as `sm_86`. TensorRT compiles for the GPU of this machine only,
            which must be of this capability; TensorRT for RTX needs no GPU.
        shapes: Smallest, usual and largest input.
        fold: Pixels of the image along each axis of a pixel of the state.
        timings: File where the times of kernels are kept between builds; none by default.
            TensorRT for RTX measures none.
    """

    def __init__(
        self,
        package: TensorRTPackage,
        target: str,
        shapes: PlanShapes,
        *,
        fold: int = 1,
        timings: Path | None = None,
    ) -> None:
        self.package = package
        self.target = target
        self.shapes = shapes
        self.fold = fold
        self.timings = None if timings is None else KeptFile(timings, "times of kernels")

    def build(self, name: str, content: bytes) -> bytes:
        """Compile one graph.

        Args:
            name: Of the graph, for messages.
            content: ONNX.

        Raises:
            EngineError: If the graph can't be parsed or compiled; TensorRT's own words are quoted.
        """
        trt, log = self.package.module, self.package.log
        builder = self.package.builder()
        network = builder.create_network(_strongly_typed(trt))
        parser = trt.OnnxParser(network, log)
        if not parser.parse(content):
            said = [str(parser.get_error(i)) for i in range(parser.num_errors)]
            detail = "; ".join(" ".join(text.split()) for text in said[:3])
            raise EngineError(
                f"{self.package.name} {self.package.version}: can't parse {name}: "
                f"{detail or self.package.complaint() or 'it gives no reason'}"
            )
        if network.num_outputs == 0:  # the parser takes any bytes for an empty graph
            raise EngineError(f"{name}: expected an ONNX graph, found no network in it")
        config = builder.create_builder_config()
        if hasattr(trt.BuilderFlag, "TF32"):
            config.clear_flag(trt.BuilderFlag.TF32)
        if self.package.name == "tensorrt-rtx":
            config.num_compute_capabilities = 1
            config.set_compute_capability(self.package.compute_capability(self.target), 0)
        config.add_optimization_profile(self._profile(builder, network, name))
        timings = self._load_timings(config)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise failure(
                f"{self.package.name} {self.package.version}: can't compile {name} for "
                f"{self.target}",
                self.package.complaint() or "it gives no reason",
            )
        self._save_timings(timings)
        return bytes(plan)

    def _profile(self, builder: Any, network: Any, name: str) -> Any:
        """Ranges of the inputs: `x`, and `state` at its own resolution."""
        profile = builder.create_optimization_profile()
        for i in range(network.num_inputs):
            tensor = network.get_input(i)
            if tensor.name not in ("x", "state"):
                raise EngineError(f"{name}: expected inputs x and state, found '{tensor.name}'")
            fold = self.fold if tensor.name == "state" else 1
            channels = tensor.shape[1]

            def sizes(shape: PlanShape, channels: int = channels, fold: int = fold) -> list[int]:
                return [shape.batch, channels, shape.rows // fold, shape.columns // fold]

            three = (self.shapes.least, self.shapes.usual, self.shapes.most)
            profile.set_shape(tensor.name, *(sizes(shape) for shape in three))
        return profile

    def _load_timings(self, config: Any) -> Any:
        if self.timings is None or self.package.name == "tensorrt-rtx":  # it measures nothing
            return None
        known = self.timings.read()
        if known:
            try:
                cache = config.create_timing_cache(known)
                # False: times of another GPU or version are not taken
                if cache is not None and config.set_timing_cache(cache, False):
                    return cache
                fault = "of another GPU or version"
            except FOREIGN as error:
                fault = first_line(error)
            self.timings.refuse(fault)
        cache = config.create_timing_cache(b"")
        return cache if cache is not None and config.set_timing_cache(cache, False) else None

    def _save_timings(self, cache: Any) -> None:
        if self.timings is not None and cache is not None:
            self.timings.take(cache.serialize)


def _strongly_typed(trt: Any) -> int:
    """Flags of a strongly typed network; later versions have no others and need no flag."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def timing_file(folder: Path, package: TensorRTPackage, target: str) -> Path:
    """Where the times of kernels of a package, version and target are kept."""
    return folder / f"timings-{package.name}-{package.version}-{target}.cache"
