"""What the ratios are taken to: other reconstructions of the same slice, in this process."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chpnet_stream.benchmark.scan_bytes import ScanBytes
from chpnet_stream.engines.engine import Problem
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
PICS = ("pics", "-l2", "-r0.01", "-i30", "-d0")


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
    for line in _messages(scan.noise):
        noise.add(line)
    assembler = SliceAssembler(header)
    for line in _messages(b"".join(scan.slice(0))):
        for data in assembler.feed(line):
            return noise, data
    (data,) = assembler.flush()
    return noise, data


def _messages(data: bytes) -> Iterator[Any]:
    reader = MessageReader(BytesStream(data))
    while (message := reader.read()) is not None:
        yield message


def measure_references(
    scan: ScanBytes, engines: dict[str, Any], model: Model, repeats: int = 5
) -> list[dict[str, Any]]:
    """Milliseconds of one slice by each method: a network alone, or a whole conventional image.

    Args:
        scan: Its first slice is used.
        engines: Loaded engines by name.
        model: The model that they run.
        repeats: Repetitions, of which the median counts; the slow ones are done twice.
    """
    noise, data = slice_of(scan)
    rows: list[dict[str, Any]] = []
    recorder: Recorder | None = None
    for name, engine in engines.items():
        recorder = Recorder(engine)
        SliceReconstructor(noise, recorder)(data)
        rows.append(
            {"what": f"{model.card.name}, {name}", "ms": median_ms(recorder.again, repeats)}
        )
    conventional = SliceReconstructor(noise, None, method="cg-sense")
    conventional(data)  # the maps are made here
    rows.append({"what": CG_SENSE, "ms": median_ms(lambda: conventional(data), repeats)})
    if recorder is not None and recorder.last is not None:
        paper = build_student(StudentConfig.paper()).eval().to(recorder.device)
        if recorder.device.type == "cpu":
            paper.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        problem = recorder.last

        def eager() -> None:
            with torch.inference_mode():
                made = paper(problem.start, problem.adjoint, problem.normal, problem.noise)
                if made.is_cuda:
                    torch.cuda.synchronize(made.device)

        rows.append({"what": PAPER, "ms": median_ms(eager, min(repeats, 2))})
    bart = _bart_ms(conventional, data)
    if bart is not None:
        rows.append({"what": BART, "ms": bart})
    return rows


def median_ms(run: Callable[[], object], repeats: int) -> float:
    """Median time after one run to warm up."""
    run()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def _bart_ms(conventional: SliceReconstructor, data: Slice) -> float | None:
    """One run of `bart pics` with our maps; its files are in memory where /dev/shm is there.

    None where BART is not installed or refuses.
    """
    program = shutil.which("bart")
    if program is None:
        return None
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
        done = subprocess.run(  # noqa: S603 - our own argument list
            [program, *PICS, *arrays, "out"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=600,
            check=False,
        )
        return 1e3 * (time.perf_counter() - begin) if done.returncode == 0 else None
