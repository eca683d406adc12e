"""The TensorRT engine around a package that needs no GPU (`fake_tensorrt`)."""

import gc
import shutil
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from chpnet_stream.engines import tensorrt
from chpnet_stream.engines.engine import Problem
from chpnet_stream.engines.failures import NoMemoryError, NoPlansError
from chpnet_stream.engines.kept_file import KeptFile
from chpnet_stream.engines.plan_key import PlanShapes
from chpnet_stream.engines.plan_store import PlanStore
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.engines.tensorrt import TensorRTEngine, plan_key
from chpnet_stream.engines.tensorrt_package import load_package
from chpnet_stream.errors import EngineError
from chpnet_stream.network.card import PlanRecord
from chpnet_stream.network.weights import Model, find_model
from tests.engines.fake_tensorrt import Config, FakeTensorRT, Kernels, fake_gpu
from tests.network.problems import problem_of

CPU = torch.device("cpu")
SHAPES = PlanShapes.parse("1x16x16", "1x16x24", "2x24x32")


@pytest.fixture(params=["kspace", "superres"])
def task(request):
    return request.param


@pytest.fixture
def trt(monkeypatch):
    fake_gpu(monkeypatch)
    module = FakeTensorRT()
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


@pytest.fixture
def rtx_module(monkeypatch):
    fake_gpu(monkeypatch)
    module = FakeTensorRT("tensorrt_rtx")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    return module


@pytest.fixture
def model(tiny_model):
    return find_model(tiny_model())


def problem(rows: int = 16, columns: int = 24, batch: int = 1, task: str = "kspace") -> Problem:
    return problem_of(task, (rows, columns), batch, dtype=torch.float32, sigma=0.05)[0]


def made(model: Model, **options) -> TensorRTEngine:
    return TensorRTEngine(model, CPU, **{"precision": "fp32", "shapes": SHAPES, **options})


def of_plan(engine: TensorRTEngine):
    """The first plan."""
    return engine.runner.denoisers[0].graph


def names(engine: TensorRTEngine, task: Problem) -> str:
    engine.run(task)
    return engine.name


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("fp16", 0.02)])
def test_plans_make_the_images_of_pytorch(tiny_model, trt, task, precision, tolerance):
    model = find_model(tiny_model("chpnet-rt", task))
    engine = made(model, precision=precision)
    exact = PyTorchEngine(model, CPU)
    # sizes change from run to run, and one is padded
    for rows, columns, batch in ((16, 24, 1), (24, 32, 2), (18, 22, 1), (16, 24, 1)):
        asked = problem(rows, columns, batch, task)
        found, expected = engine.run(asked), exact.run(asked)
        assert (found - expected).abs().max() < tolerance * expected.abs().max()
        assert engine.name == f"tensorrt-{precision}"
    assert len(trt.builds) == len(model.card.onnx_sha256)


def test_plans_are_made_once(model, trt, caplog):
    first = made(model)
    assert "they are made now" in caplog.text
    caplog.clear()
    builds = len(trt.builds)
    again = made(model, build=False)
    assert len(trt.builds) == builds
    assert torch.equal(first.run(problem()), again.run(problem()))
    assert not caplog.records


def test_no_plans_and_what_is_near_is_told(model, trt):
    said = r"expected plans of tiny for this GPU \(sm_86, tensorrt 10\.14\.1\), found "
    with pytest.raises(NoPlansError, match=rf"{said}none; --engine tensorrt makes .*tiny\.json"):
        made(model, build=False)
    made(model)
    made(model, precision="fp16")
    trt.__version__ = "10.15.0"
    old = "version 10.14.1 instead of 10.15.0"
    near = f"those of {old} and of {old}, precision fp16 instead of fp32"
    with pytest.raises(NoPlansError, match=f"found {near}; "):
        made(model, build=False)
    trt.__version__ = "10.14.1"
    wider = PlanShapes.parse("1x16x16", "1x16x24", "2x64x64")
    near = "those of shapes 1x16x16 1x16x24 2x24x32 instead of 1x16x16 1x16x24 2x64x64"
    with pytest.raises(NoPlansError, match=f"found {near}"):
        made(model, build=False, shapes=wider)
    assert len(trt.builds) == 4


def test_a_plan_that_does_not_load_is_made_again(model, trt, caplog):
    made(model)
    trt.bad = b"plan 1\n"
    with pytest.raises(EngineError, match=r"can't load the plan of .*magic tag"):
        made(model, build=False)
    engine = made(model)
    assert len(trt.builds) == 4
    assert "magic tag does not match; other plans are looked for" in caplog.text
    assert engine.run(problem()).isfinite().all()
    caplog.clear()
    assert made(model, build=False).name == "tensorrt-fp32"
    assert not caplog.records


@pytest.fixture
def beside(model, trt, tmp_path):
    """A model with plans beside its card that don't load."""
    made(model)
    package = load_package("tensorrt")
    key = plan_key(model, package, "sm_86", "fp32", SHAPES)
    plans = PlanStore(tmp_path / "plans").read(key)
    assert plans is not None
    folder = tmp_path / "compiled"
    folder.mkdir(mode=0o700)
    for path in model.files():
        shutil.copy(path, folder)
    record = PlanRecord(
        **{name: getattr(key, name) for name in ("package", "version", "target", "precision")},
        key=key.digest,
        shapes=key.shapes,
        files={},
        parity={},
        measured_on="",
        tolerance=0.05,
    )
    spoilt = [b"beside the card " + plan for plan in plans]
    files = PlanStore(folder).write(key, spoilt, PlanStore.stem_beside("tiny", record))
    record = record.model_copy(update={"files": files})
    trt.bad = b"beside the card"
    trt.loads.clear()
    return Model(model.card.model_copy(update={"plans": (record,)}), folder)


def test_after_a_plan_beside_the_card_the_cache_is_asked(beside, trt, caplog):
    builds = len(trt.builds)
    for _ in range(2):
        caplog.clear()
        assert names(made(beside, shapes=None), problem()) == "tensorrt-fp32"
        assert "other plans are looked for" in caplog.text
    assert len(trt.builds) == builds
    assert [plan.startswith(b"beside") for plan in trt.loads] == [True, False, False] * 2


def test_behind_an_upgrade_plans_are_made_for_the_same_matrices(beside, trt):
    trt.__version__ = "10.15.0"
    builds = len(trt.builds)
    engine = made(beside, shapes=None)
    assert engine.shapes == SHAPES
    assert len(trt.builds) == 2 * builds
    assert names(engine, problem(24, 32)) == "tensorrt-fp32"
    assert made(beside, shapes=None, build=False).shapes == SHAPES
    assert len(trt.builds) == 2 * builds


@pytest.mark.parametrize("full", ["engine", "context"])
def test_where_memory_is_short_no_plan_is_made_again(model, trt, full, tmp_path):
    made(model)
    builds = len(trt.builds)
    before = {path: path.read_bytes() for path in (tmp_path / "plans").iterdir()}
    trt.full = full
    with pytest.raises(NoMemoryError, match=r"(?i)out ?of ?memory"):
        made(model)
    assert len(trt.builds) == builds
    assert {path: path.read_bytes() for path in (tmp_path / "plans").iterdir()} == before
    trt.full = ""
    assert made(model, build=False).name == "tensorrt-fp32"


def test_another_matrix_runs_in_pytorch_and_says_so(model, trt, caplog):
    engine = made(model)
    caplog.clear()
    wide = problem(16, 40)
    for _ in range(2):
        assert torch.equal(engine.run(wide), PyTorchEngine(model, CPU).run(wide))
        assert engine.name == "pytorch-cpu (instead of tensorrt-fp32)"
    assert names(engine, problem()) == "tensorrt-fp32"
    assert names(engine, problem(8, 16)) == "pytorch-cpu (instead of tensorrt-fp32)"
    assert names(engine, problem(batch=3)) == "pytorch-cpu (instead of tensorrt-fp32)"
    (record,) = caplog.records
    assert "found a matrix of 16 x 40 (batch 1), expected one from 1x16x16 to" in record.message


def test_scans_of_several_matrices_are_not_mixed_up(model, trt):
    engine = made(model)
    together = threading.Barrier(2, timeout=60)

    def scan(size: int) -> set[str]:
        found = set()
        for _ in range(5):
            engine.run(problem(16, size))
            together.wait()  # the other scan's run is between a run and the question for its name
            found.add(engine.name)
            together.wait()
        return found

    with ThreadPoolExecutor(2) as threads:
        inside, outside = threads.map(scan, [24, 40])
    assert inside == {"tensorrt-fp32"}
    assert outside == {"pytorch-cpu (instead of tensorrt-fp32)"}


def test_threads_with_other_matrices_load_one_network(model, trt, monkeypatch):
    loaded = []

    def counted(*words: object) -> PyTorchEngine:
        loaded.append(words)
        return PyTorchEngine(*words)

    engine = made(model)
    monkeypatch.setattr("chpnet_stream.engines.tensorrt.PyTorchEngine", counted)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(engine.run, [problem(16, 40) for _ in range(8)]))
    assert len(loaded) == 1


def test_a_network_for_other_matrices_that_can_not_be_loaded(model, trt, monkeypatch, caplog):
    asked = []

    def full(*words: object) -> PyTorchEngine:
        asked.append(words)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    engine = made(model)
    caplog.clear()
    monkeypatch.setattr("chpnet_stream.engines.tensorrt.PyTorchEngine", full)
    for _ in range(4):
        with pytest.raises(EngineError, match="pytorch: OutOfMemoryError: CUDA out of memory"):
            engine.run(problem(16, 40))
    assert len(asked) == 3
    assert len(caplog.records) == 1
    assert names(engine, problem()) == "tensorrt-fp32"


@pytest.mark.parametrize("kind", ["Runtime", "Builder"])
def test_a_driver_that_does_not_suit_is_told_in_tensorrt_s_words(model, trt, monkeypatch, kind):
    def none(log):
        log.log(1, "CUDA initialization failure with error: 35. Please check your installation")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(trt, kind, none)
    said = r"tensorrt 10\.14\.1 can't begin: CUDA initialization failure with error: 35"
    with pytest.raises(EngineError, match=said):
        made(model)


def test_a_run_that_fails_is_told_in_tensorrt_s_words(model, trt):
    engine = made(model)
    trt.fails = True
    with pytest.raises(EngineError, match=r"tensorrt: tiny\.0\.onnx failed: .*illegal memory"):
        engine.run(problem())


def test_shapes_that_a_plan_refuses_are_told(model, trt):
    engine = made(model)
    graph = of_plan(engine)
    x = torch.zeros(1, of_plan(engine).engine.session.get_inputs()[0].shape[1], 64, 64)
    with pytest.raises(EngineError, match=r"tiny\.0\.onnx: Static dimension mismatch of x"):
        graph(x, None)


def test_a_shape_that_is_refused_in_part_leaves_none_behind(model, trt):
    """The image was taken and the state was not: what ran before must be set anew."""
    engine = made(model)
    expected = engine.run(problem())
    graph = of_plan(engine)
    graph.engine.shapes["state"][2] = graph.engine.shapes["state"][1]  # refuses larger ones
    with pytest.raises(EngineError, match="Static dimension mismatch of state"):
        engine.run(problem(24, 32))
    assert torch.equal(engine.run(problem()), expected)


def test_plans_that_were_loaded_before_one_that_does_not_are_let_go(model, trt, monkeypatch):
    """At once: their memory is what the next ones may need."""
    made(model)
    loaded, gone = [], []
    load, build = tensorrt._Plan, tensorrt.build_plans

    def watched(*words):
        plan = load(*words)
        loaded.append(weakref.ref(plan))
        return plan

    def then(*words):
        gone.extend(plan() is None for plan in loaded)
        return build(*words)

    monkeypatch.setattr(tensorrt, "_Plan", watched)
    monkeypatch.setattr(tensorrt, "build_plans", then)
    trt.bad = b"plan 2\n"
    gc.disable()
    try:
        made(model)
    finally:
        gc.enable()
    assert gone == [True]


def test_outputs_keep_their_memory(model, trt):
    """An image is not overwritten by the next run."""
    engine = made(model)
    first = engine.run(problem())
    copy = first.clone()
    engine.run(problem_of("kspace", (16, 24), dtype=torch.float32, sigma=0.5)[0])
    assert torch.equal(first, copy)


def rtx_engine(model: Model) -> TensorRTEngine:
    return made(model, package="tensorrt-rtx")


def kernels(tmp_path):
    return sorted((tmp_path / "plans").glob("*.kernels"))


def test_kernels_are_kept_for_the_next_start(model, rtx_module, tmp_path, caplog):
    engine = rtx_engine(model)
    assert kernels(tmp_path) == []
    engine.run(problem())
    paths = kernels(tmp_path)
    assert len(paths) == 2
    caplog.clear()
    again = rtx_engine(model)
    assert of_plan(again).kernels.content == b"sm_86+"
    assert of_plan(again).context.config.cache is of_plan(again).kernels
    assert not caplog.records


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-1] + b"!"), "its checksum is missing or differs"),
        (lambda p: p.write_bytes(b"sm_86 of an older version"), "checksum is missing or differs"),
        (lambda p: p.write_bytes(b""), "its checksum is missing or differs"),
        (lambda p: KeptFile(p, "").write(b"sm_90"), "of another GPU, driver or version"),
        (lambda p: KeptFile(p, "").write(b"raises"), "invalid blob"),
        (lambda p: p.parent.chmod(0o770), "its group can write to its folder; chmod g-w it"),
    ],
    ids=["damaged", "old", "empty", "foreign", "unreadable", "folder"],
)
def test_kernels_that_can_not_be_used_are_told_and_begin_empty(
    model, rtx_module, tmp_path, caplog, spoil, says
):
    rtx_engine(model).run(problem())
    path = kernels(tmp_path)[0]
    spoil(path)
    caplog.clear()
    again = rtx_engine(model)
    assert of_plan(again).kernels.content == b""
    assert f"{path}: found compiled kernels that can't be used: " in caplog.text
    assert says in caplog.text
    again.run(problem())
    path.parent.chmod(0o700)
    caplog.clear()
    assert of_plan(rtx_engine(model)).kernels.content == b"sm_86+"  # written anew
    assert not [r for r in caplog.records if "kernels" in r.message]


def test_kernels_that_can_not_be_kept_cost_nothing_else(model, rtx_module, monkeypatch, caplog):
    engine = rtx_engine(model)
    caplog.clear()

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("chpnet_stream.engines.kept_file.write_trusted", full)
    for size in (24, 32):
        assert engine.run(problem(16, size)).isfinite().all()
    assert len(caplog.records) == 2  # once for each plan
    assert "compiled kernels can't be kept" in caplog.text
    assert "No space left" in caplog.text


def test_kernels_that_are_not_handed_out_cost_nothing_else(model, rtx_module, monkeypatch, caplog):
    """TensorRT gives nothing where memory is short, and raises nothing."""
    engine = rtx_engine(model)
    caplog.clear()
    monkeypatch.setattr(Kernels, "serialize", lambda self: None)
    for size in (24, 32):
        assert engine.run(problem(16, size)).isfinite().all()
        assert engine.name == "tensorrt-rtx-fp32"
    assert len(caplog.records) == 2  # once for each plan
    assert "compiled kernels can't be kept: cannot convert 'NoneType'" in caplog.text


def test_scans_that_take_turns_keep_the_kernels_of_a_matrix_once(model, rtx_module, monkeypatch):
    """Writing them takes time that no slice has."""
    written = []
    write = KeptFile.write

    def counted(self, content):
        written.append(self.path.name)
        return write(self, content)

    monkeypatch.setattr(KeptFile, "write", counted)
    engine = rtx_engine(model)
    for _ in range(3):
        for size in (24, 32):
            engine.run(problem(16, size))
    assert len(written) == 2 * len(model.card.onnx_sha256)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (None, ""),
        (lambda p: p.write_bytes(b"garbage"), "its checksum is missing or differs"),
        (lambda p: KeptFile(p, "").write(b"other"), "of another GPU or version"),
        (lambda p: KeptFile(p, "").write(b"raises"), "basic_string"),
    ],
    ids=["whole", "damaged", "foreign", "unreadable"],
)
def test_times_of_kernels_are_kept(model, trt, tmp_path, caplog, spoil, says):
    made(model)
    path = tmp_path / "plans" / "timings-tensorrt-10.14.1-sm_86.cache"
    assert trt.timings == [b"", b"times of this GPU"]  # of two graphs
    if spoil is not None:
        spoil(path)
    trt.timings.clear()
    caplog.clear()
    made(model, precision="fp16")
    assert trt.timings == [b"" if spoil else b"times of this GPU", b"times of this GPU"]
    found = [r.message for r in caplog.records if "they are made now" not in r.message]
    start = f"{path}: found times of kernels that can't be used: "
    assert [text.startswith(start) and says in text for text in found] == [True] * bool(spoil)


def test_times_that_are_not_handed_out_cost_no_plans(model, trt, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(Config, "KNOWN", None)
    assert made(model).run(problem()).isfinite().all()
    assert "times of kernels can't be kept: cannot convert 'NoneType'" in caplog.text
    assert not list((tmp_path / "plans").glob("timings-*"))


def test_no_gpu_is_told(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRT())
    with pytest.raises(EngineError, match=r"tensorrt: expected a GPU .*, found the device cpu"):
        TensorRTEngine(model, CPU)
    if not torch.cuda.is_available():
        with pytest.raises(EngineError, match="expected a GPU that PyTorch can use, found none"):
            TensorRTEngine(model, torch.device("cuda"))
