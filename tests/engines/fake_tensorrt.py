"""A TensorRT for tests without a GPU: the calls that are made of it, carried out by ONNX Runtime.

A plan is its range of shapes and the ONNX graph. Tensors are read and written at the addresses
that they are given, on the CPU.
"""

from __future__ import annotations

import ctypes
import json
import math
from contextlib import nullcontext
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import torch

STREAM = 7
"""Stands for PyTorch's current stream."""


def fake_gpu(monkeypatch: Any) -> None:
    """Let `TensorRTEngine` take the CPU for a GPU of the kind sm_86."""
    from chpnet_stream.engines import tensorrt

    monkeypatch.setattr(tensorrt, "_usable_target", lambda package, device: "sm_86")
    monkeypatch.setattr(tensorrt, "CudaRunner", lambda network, device, record: network)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    stream = SimpleNamespace(cuda_stream=STREAM)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: stream)


class FakeTensorRT(ModuleType):
    """The module.

    Attributes:
        builds: Graphs that were compiled.
        loads: Plans that were asked to be loaded.
        timings: What the builds knew of times of kernels.
        bad: Plans with these bytes in them don't load.
        full: What has no memory: "engine", "context" or nothing.
        fails: Whether runs fail.
    """

    __version__ = "10.14.1"

    class ILogger:
        Severity = SimpleNamespace(ERROR=1, WARNING=2)

    class TensorIOMode:
        INPUT, OUTPUT = "input", "output"

    class BuilderFlag:
        TF32 = "tf32"

    class NetworkDefinitionCreationFlag:
        STRONGLY_TYPED = 1

    def __init__(self, name: str = "tensorrt") -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.builds: list[bytes] = []
        self.loads: list[bytes] = []
        self.timings: list[bytes] = []
        self.bad = b"no plan has this"
        self.full = ""
        self.fails = False
        if name == "tensorrt_rtx":
            self.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
            self.ComputeCapability = SimpleNamespace(__members__={"SM86": 86})

    def Runtime(self, log: Any) -> Any:  # noqa: N802 - TensorRT's names
        def load(plan: bytes) -> Any:
            self.loads.append(plan)
            if self.full == "engine":
                log.log(1, "Error Code 2: OutOfMemory (Requested size was 123 bytes.)")
                return None
            if self.bad in plan:
                log.log(1, "Serialization assertion failed: magic tag does not match")
                return None
            return Engine(self, log, plan)

        return SimpleNamespace(deserialize_cuda_engine=load)

    def Builder(self, log: Any) -> Any:  # noqa: N802
        def build(network: Any, config: Any) -> bytes:
            self.builds.append(network.content)
            number = str(len(self.builds)).encode()  # no two builds give the same bytes
            shapes = json.dumps(config.profile.shapes).encode()
            return b"\n".join([b"plan " + number, shapes, network.content])

        return SimpleNamespace(
            create_network=lambda flags: SimpleNamespace(num_outputs=0),
            create_builder_config=lambda: Config(self.timings),
            create_optimization_profile=Profile,
            build_serialized_network=build,
        )

    def OnnxParser(self, network: Any, log: Any) -> Any:  # noqa: N802
        def parse(content: bytes) -> bool:
            session = onnxruntime.InferenceSession(content)
            network.content = content
            inputs = session.get_inputs()
            network.num_inputs, network.num_outputs = len(inputs), len(session.get_outputs())
            network.get_input = lambda i: inputs[i]
            return True

        return SimpleNamespace(parse=parse, num_errors=0)


class Profile:
    """Ranges of shapes by the names of inputs."""

    def __init__(self) -> None:
        self.shapes: dict[str, list[list[int]]] = {}

    def set_shape(self, name: str, *three: list[int]) -> None:
        self.shapes[name] = list(three)


class Config:
    """How a plan is built; the times of kernels are a few words."""

    KNOWN = b"times of this GPU"

    def __init__(self, timings: list[bytes]) -> None:
        self.timings = timings

    def clear_flag(self, flag: str) -> None:
        assert flag == "tf32"

    def add_optimization_profile(self, profile: Profile) -> None:
        self.profile = profile

    def set_compute_capability(self, capability: int, place: int) -> None:
        assert (capability, place) == (86, 0)

    def create_timing_cache(self, content: bytes) -> Any:
        if content.startswith(b"raises"):
            raise RuntimeError("basic_string::_M_create")
        return SimpleNamespace(content=content, serialize=lambda: self.KNOWN)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        fits = cache.content in (b"", self.KNOWN)
        if fits:
            self.timings.append(cache.content)
        return fits


class Engine:
    """A loaded plan."""

    def __init__(self, module: FakeTensorRT, log: Any, plan: bytes) -> None:
        self.module, self.log = module, log
        _, shapes, content = plan.split(b"\n", 2)
        self.shapes = json.loads(shapes)
        self.session = onnxruntime.InferenceSession(content)
        self.inputs = [tensor.name for tensor in self.session.get_inputs()]
        self.outputs = [tensor.name for tensor in self.session.get_outputs()]
        self.num_io_tensors = len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, place: int) -> str:
        return [*self.inputs, *self.outputs][place]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name in self.inputs else "output"

    def create_runtime_config(self) -> Any:
        return RuntimeConfig()

    def create_execution_context(self, config: Any = None) -> Any:
        if self.module.full == "context":
            self.log.log(1, "Cuda Runtime (out of memory)")
            return None
        return Context(self, config)


class RuntimeConfig:
    """Of TensorRT for RTX: which kernels are compiled when, and where they are kept."""

    def create_runtime_cache(self) -> Kernels:
        return Kernels()

    def set_runtime_cache(self, cache: Kernels) -> None:
        self.cache = cache


class Kernels:
    """Compiled kernels: those of this GPU begin with its name."""

    def __init__(self) -> None:
        self.content = b""

    def deserialize(self, content: bytes) -> bool:
        if content.startswith(b"raises"):
            raise RuntimeError("invalid blob")
        if not content.startswith(b"sm_86"):
            return False
        self.content = content
        return True

    def serialize(self) -> bytes:
        return (self.content or b"sm_86") + b"+"


class Context:
    """Runs a plan on memory that it is told of."""

    def __init__(self, engine: Engine, config: Any) -> None:
        self.engine, self.config = engine, config
        self.sizes: dict[str, tuple[int, ...]] = {}
        self.places: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.shapes[name]
        fits = all(a <= n <= b for a, n, b in zip(least, shape, most, strict=True))
        if fits:
            self.sizes[name] = shape
        else:
            self.engine.log.log(1, f"Static dimension mismatch of {name}")
        return fits

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name == "features":
            return self.sizes["state"]
        channels = self.engine.session.get_outputs()[0].shape[1]
        batch, _, *size = self.sizes["x"]
        return (batch, channels, *size)

    def set_tensor_address(self, name: str, place: int) -> None:
        self.places[name] = place

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == STREAM
        if self.engine.module.fails:
            self.engine.log.log(1, "Cuda Runtime (an illegal memory access was encountered)")
            return False
        feeds = {name: self._at(name, self.sizes[name]) for name in self.engine.inputs}
        results = self.engine.session.run(self.engine.outputs, feeds)
        for name, result in zip(self.engine.outputs, results, strict=True):
            self._at(name, self.get_tensor_shape(name))[:] = result
        return True

    def _at(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        memory = (ctypes.c_float * math.prod(shape)).from_address(self.places[name])
        return np.frombuffer(memory, np.float32).reshape(shape)
