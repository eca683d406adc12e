"""What the ratios are taken to: other reconstructions of the same slice, in this process."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chpnet_stream.benchmark.scan_bytes import ScanBytes
from chpnet_stream.engines.engine import Problem, first_line
from chpnet_stream.engines.onnx import OnnxEngine
from chpnet_stream.engines.stand_in import stands_in
from chpnet_stream.errors import ChpnetError, EngineError
from chpnet_stream.mrd.header import ScanHeader
from chpnet_stream.mrd.wire.byte_stream import BytesStream
from chpnet_stream.mrd.wire.reader import MessageReader
from chpnet_stream.network.chpnet import build_student
from chpnet_stream.network.config import StudentConfig
from chpnet_stream.network.weights import Model
from chpnet_stream.reconstruction import SliceReconstructor
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.slices import Slice, SliceAssembler

PAPER = "paper-size student, PyTorch eager"
CG_SENSE = "CG-SENSE of chpnet-stream"
BART = "BART pics"
ONNX = "ONNX Runtime, fp32"
ONNX_NAME = "onnx-cpu"
"""What `OnnxEngine` calls itself in fp32."""
PICS = ("pics", "-l2", "-r0.01", "-i30", "-d0")

BART_PATIENCE = 600.0
"""Seconds that BART may take for a slice."""


class _NotMeasured(Exception):  # noqa: N818 - no error of ours: the others are measured
    """Why another program gave no time."""


class Recorder:
    """An engine that remembers the last problem it was given."""

    def __init__(self, engine: Any) -> None:
        self.name, self.card, self.device = engine.name, engine.card, engine.device
        self.engine = engine
        self.last: Problem | None = None

    def run(self, problem: Problem) -> torch.Tensor:
        """See `Engine.run`."""
        self.last = problem
        made: torch.Tensor = self.engine.run(problem)
        return made

    def again(self) -> torch.Tensor:
        """Run the last problem once more, without the pipeline around it."""
        if self.last is None:
            raise ValueError("expected a run before `again`, found none")
        made: torch.Tensor = self.engine.run(self.last)
        if made.is_cuda:
            torch.cuda.synchronize(made.device)
        return made


def slice_of(scan: ScanBytes) -> tuple[NoiseScan, Slice]:
    """The first slice of a series, as a session gets it."""
    header = ScanHeader.from_xml(scan.header)
    noise = NoiseScan(header.noise_bandwidth)
    for line in read_messages(scan.noise):
        noise.add(line)
    assembler = SliceAssembler(header)
    for line in read_messages(b"".join(scan.slice(0))):
        for data in assembler.feed(line):
            return noise, data
    (data,) = assembler.flush()
    return noise, data


def read_messages(data: bytes) -> Iterator[Any]:
    """The messages in some bytes."""
    reader = MessageReader(BytesStream(data))
    while (message := reader.read()) is not None:
        yield message


def measure_references(
    scan: ScanBytes, engines: dict[str, Any], model: Model, repeats: int = 5
) -> list[dict[str, Any]]:
    """Milliseconds of one slice by each method, in this process.

    A row has `what`, `by` (what does the work), the `part` of it that is timed ("network": alone;
    "image": all from the slice to its image, maps known), `ms`, and of our engines `engine`. Where
    a method fails `ms` is None, and `why` says it.

    Args:
        scan: Its first slice is used.
        engines: Loaded engines by name.
        model: The model that they run.
        repeats: Repetitions, of which the median counts; the slow ones are done twice.
    """
    noise, data = slice_of(scan)
    rows: list[dict[str, Any]] = []
    recorders: list[Recorder] = []
    for name, engine in engines.items():
        rows += _ours(f"{model.card.name}, {name}", name, engine, noise, data, repeats, recorders)
    if not any(engine.name == ONNX_NAME for engine in engines.values()):
        try:
            onnx = OnnxEngine(model)
        except ChpnetError as error:
            told = {"part": "network", "ms": None, "why": str(error)}
            rows.append({"what": ONNX, "by": ONNX_NAME, **told})
        else:
            rows += _ours(ONNX, None, onnx, noise, data, repeats, [])[:1]
    conventional = SliceReconstructor(noise, None, method="cg-sense")
    rows.append(_timed(CG_SENSE, "image", lambda: conventional(data), repeats))
    rows.append(_timed(PAPER, "network", _paper(recorders), min(repeats, 2)))
    rows.append(_row(BART, "image", lambda: _bart_ms(conventional, data)))
    return rows


def _ours(
    what: str,
    name: str | None,
    engine: Any,
    noise: NoiseScan,
    data: Slice,
    repeats: int,
    recorders: list[Recorder],
) -> list[dict[str, Any]]:
    """The network of an engine alone, and the whole image by it; not if another one took over."""
    recorder = Recorder(engine)
    reconstruct = SliceReconstructor(noise, recorder)
    image = _timed(what, "image", lambda: reconstruct(data), repeats)
    network = _timed(what, "network", recorder.again, repeats)
    reconstruct.close()
    if recorder.last is not None:
        recorders.append(recorder)
    rows = [{**row, "by": engine.name, "engine": name} for row in (network, image)]
    if stands_in(engine):
        why = f"expected the engine that was asked for, found {engine.name}"
        rows = [{**row, "ms": None, "why": why} for row in rows]
    return rows


def _paper(recorders: list[Recorder]) -> Callable[[], object]:
    """The paper-size student on a problem of ours: on the GPU where one of the engines is there."""
    found = sorted(recorders, key=lambda recorder: recorder.device.type == "cuda")[-1:]
    problem = found[0].last if found else None

    def nothing() -> object:
        raise EngineError("none of the engines gave a problem for it")

    if problem is None:
        return nothing
    device = problem.start.device
    paper = build_student(StudentConfig.paper()).eval().to(device)
    if device.type == "cpu":
        paper.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def eager() -> object:
        with torch.inference_mode():
            made = paper(problem.start, problem.adjoint, problem.normal, problem.noise)
            if made.is_cuda:
                torch.cuda.synchronize(made.device)
        return made

    return eager


def _timed(what: str, part: str, run: Callable[[], object], repeats: int) -> dict[str, Any]:
    """A row; a method that fails costs only itself."""
    return _row(what, part, lambda: median_ms(run, repeats))


def _row(what: str, part: str, measure: Callable[[], float]) -> dict[str, Any]:
    row: dict[str, Any] = {"what": what, "by": what, "part": part}
    try:
        return {**row, "ms": measure()}
    except _NotMeasured as error:
        return {**row, "ms": None, "why": str(error)}
    except (ChpnetError, RuntimeError, ValueError, OSError) as error:  # memory or disk, mostly
        return {**row, "ms": None, "why": f"{type(error).__name__}: {first_line(error)}"}


def may_come_yet(row: Mapping[str, Any]) -> bool:
    """Whether a row has no time for a reason that may have passed since: memory, a full disk.

    Programs that are still not installed are no such reason.
    """
    missing = row.get("by") == BART and shutil.which("bart") is None
    return bool(row.get("why")) and not missing


def median_ms(run: Callable[[], object], repeats: int) -> float:
    """Median time after one run to warm up."""
    run()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def _bart_ms(conventional: SliceReconstructor, data: Slice) -> float:
    """One run of `bart pics` with our maps; its files are in memory where /dev/shm is there.

    Raises:
        _NotMeasured: BART is not installed, refuses, or doesn't come to an end.
    """
    program = shutil.which("bart")
    if program is None:
        raise _NotMeasured("bart is not installed")
    sensitivities = conventional.calibration.sensitivities(data)
    mixed = np.tensordot(sensitivities.mixing.numpy(), data.kspace, 1)
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - only a faster disk
    with tempfile.TemporaryDirectory(prefix="chpnet-bench-", dir=memory) as folder:
        arrays = {"kspace": mixed, "maps": sensitivities.maps.cpu().numpy()}
        for name, array in arrays.items():
            columns = array.transpose(2, 1, 0)[:, :, np.newaxis, :]  # BART's x y 1 coils
            sizes = " ".join(map(str, columns.shape))
            header = Path(folder) / f"{name}.hdr"
            header.write_text(f"# Dimensions\n{sizes}\n", encoding="ascii")
            columns.astype("<c8").ravel(order="F").tofile(Path(folder) / f"{name}.cfl")
        begin = time.perf_counter()
        try:
            done = subprocess.run(  # noqa: S603 - our own argument list
                [program, *PICS, *arrays, "out"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=BART_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _NotMeasured(f"bart had no image within {BART_PATIENCE:g} s") from None
        spent = 1e3 * (time.perf_counter() - begin)
    if done.returncode == 0:
        return spent
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    raise _NotMeasured(f"bart ended with status {done.returncode}: {' '.join(said[-1:])}")
