"""The path of full TensorRT, as far as it can be walked where only TensorRT for RTX is.

Both have the same classes. `full` is TensorRT for RTX without what only it has, under the name of
the other: what leans on more than both have fails here. Plans can't be loaded without a GPU, so
that engines are stood for by objects with the calls of TensorRT's documentation.
"""

from types import SimpleNamespace

import pytest

from chpnet_stream.engines.kept_file import KeptFile
from chpnet_stream.engines.plan_builder import PlanBuilder, timing_file
from chpnet_stream.engines.plan_key import PlanShapes
from chpnet_stream.engines.tensorrt import _Plan
from chpnet_stream.engines.tensorrt_package import TensorRTPackage
from chpnet_stream.errors import EngineError
from chpnet_stream.network.weights import find_model

SHAPES = PlanShapes.parse("1x64x64", "1x64x64", "1x64x64", 8)
ONLY_RTX = frozenset(
    {
        *("ComputeCapability", "CudaGraphStrategy", "DynamicShapesKernelSpecializationStrategy"),
        *("IRuntimeCache", "num_compute_capabilities", "set_compute_capability"),
    }
)


class Without:
    """Something without the names that only TensorRT for RTX has."""

    def __init__(self, real, **instead):
        self.real = real
        vars(self).update(instead)

    def __getattr__(self, name):
        if name in ONLY_RTX:
            raise AttributeError(name)
        return getattr(self.real, name)


@pytest.fixture
def full(rtx):
    def builder(log):
        real = rtx.module.Builder(log)

        def config():
            made = real.create_builder_config()
            made.num_compute_capabilities = 1  # full TensorRT has the GPU of the machine instead
            made.set_compute_capability(rtx.module.ComputeCapability.SM86, 0)
            return Without(made)

        def build(network, config):
            return real.build_serialized_network(network, config.real)

        return Without(real, create_builder_config=config, build_serialized_network=build)

    return TensorRTPackage("tensorrt", "10.14.1", Without(rtx.module, Builder=builder), rtx.log)


# TensorRT for RTX measures no kernels, and says so wherever it is asked to keep their times.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_builder_asks_for_nothing_that_only_rtx_has(full, tmp_path):
    _, graph = find_model("chpnet-rt").graphs()[0]
    times = timing_file(tmp_path / "plans", full, "sm_86")
    builder = PlanBuilder(full, "sm_86", SHAPES, fold=2, timings=times)
    assert len(builder.build("chpnet-rt.0.onnx", graph)) > 1_000_000
    assert times.name == "timings-tensorrt-10.14.1-sm_86.cache"
    assert times.is_file()
    times.write_bytes(b"of another version")  # not taken, and no reason to fail
    assert len(builder.build("chpnet-rt.0.onnx", graph)) > 1_000_000


class Engine:
    """A deserialised plan with a runtime configuration, which newer TensorRT have, too."""

    num_io_tensors = 2

    def __init__(self, mode, config=None):
        self.mode = mode
        self.config = config or SimpleNamespace()
        self.contexts = []

    def get_tensor_name(self, place):
        return ("x", "image")[place]

    def get_tensor_mode(self, name):
        return self.mode.OUTPUT if name == "image" else self.mode.INPUT

    def create_runtime_config(self):
        return self.config

    def create_execution_context(self, *words):
        self.contexts.append(words)
        return "a context"


def loaded(package, engine, tmp_path):
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: engine)
    return _Plan(package, runtime, "0", b"plan", tmp_path / "0.kernels")


def test_contexts_of_full_tensorrt_are_plain_ones(full, tmp_path):
    engine = Engine(full.module.TensorIOMode)
    plan = loaded(full, engine, tmp_path)
    assert engine.contexts == [()]
    assert plan.kernels is None
    assert plan.outputs == ["image"]


def test_contexts_of_rtx_have_all_kernels_at_once(rtx, tmp_path):
    taken = []
    kernels = SimpleNamespace(deserialize=lambda content: taken.append(content) is None)
    config = SimpleNamespace(create_runtime_cache=lambda: kernels, set_runtime_cache=taken.append)
    KeptFile(tmp_path / "0.kernels", "kernels").write(b"kept")
    engine = Engine(rtx.module.TensorIOMode, config)
    plan = loaded(rtx, engine, tmp_path)
    assert engine.contexts == [(config,)]
    assert taken == [b"kept", kernels]
    assert plan.kernels is kernels
    eager = rtx.module.DynamicShapesKernelSpecializationStrategy.EAGER
    assert config.dynamic_shapes_kernel_specialization_strategy == eager


def test_a_plan_that_does_not_load_is_told(full, tmp_path):
    with pytest.raises(EngineError, match="tensorrt: can't load the plan of 0: it gives no reason"):
        loaded(full, None, tmp_path)
