"""Latency of a slice on a GPU, engine by engine: writes docs/tables/gpu.md and gpu.json.

Lines come one by one into a live session, as in a gadget, and the clock runs from the last one of a
slice until its image is the bytes of a message: what is done while lines come is not waited for.
Beside it: the whole slice, from its lines in memory to its image, with nothing done ahead; and the
network alone, timed by CUDA events. Coil maps are kept, as they are from the second repetition on.
Every engine that can run here does; the others say why not. `--device cpu` rehearses all of it on a
machine without a GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from report import TABLES, machine, markdown_table, write

from chpnet_stream.benchmark.device_memory import DeviceMemory
from chpnet_stream.benchmark.plan import Case
from chpnet_stream.benchmark.references import Recorder, read_messages, slice_of
from chpnet_stream.benchmark.scan_bytes import ScanBytes
from chpnet_stream.engines.choice import FOREIGN
from chpnet_stream.engines.engine import Engine
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.errors import ChpnetError, EngineError
from chpnet_stream.mrd.header import ScanHeader
from chpnet_stream.mrd.wire.writer import message_parts
from chpnet_stream.network.weights import DEFAULT_MODEL, Model, find_model
from chpnet_stream.passing_thread import PassingThread
from chpnet_stream.reconstruction import SliceReconstructor
from chpnet_stream.session import Session, SessionImage
from chpnet_training.parity import measure_parity, reference_images, simulated_examples

Make = Callable[[Model, torch.device], Engine]


def _plans(package: str, precision: str) -> Make:
    def make(model: Model, device: torch.device) -> Engine:
        from chpnet_stream.engines.tensorrt import TensorRTEngine

        return TensorRTEngine(model, device, package=package, precision=precision)

    return make


def _compiled(model: Model, device: torch.device) -> Engine:
    engine = PyTorchEngine(model, device, record=False)
    network = engine.network if device.type == "cpu" else engine.network.network  # type: ignore[attr-defined]
    for denoiser in network.denoisers:  # type: ignore[attr-defined]
        denoiser.compile()
    engine.name = f"pytorch-{device.type} torch.compile"
    return engine


def _named(name: str, precision: str) -> Make:
    def make(model: Model, device: torch.device) -> Engine:
        from chpnet_stream.engines.choice import make_engine

        return make_engine(name, model, device, precision)

    return make


ON_GPU: dict[str, Make] = {
    "pytorch eager fp32": lambda model, device: PyTorchEngine(model, device, record=False),
    "pytorch CUDA graph fp32": lambda model, device: PyTorchEngine(model, device),
    "pytorch torch.compile fp32": _compiled,
    "tensorrt fp32": _plans("tensorrt", "fp32"),
    "tensorrt fp16": _plans("tensorrt", "fp16"),
    "tensorrt-rtx fp32": _plans("tensorrt-rtx", "fp32"),
    "tensorrt-rtx fp16": _plans("tensorrt-rtx", "fp16"),
}
ON_CPU: dict[str, Make] = {
    "pytorch eager fp32": lambda model, device: PyTorchEngine(model, device),
    "pytorch bf16": _named("pytorch", "bf16"),
    "onnx fp32": _named("onnx", "fp32"),
    "tensorrt fp16": _plans("tensorrt", "fp16"),
    "tensorrt-rtx fp16": _plans("tensorrt-rtx", "fp16"),
}
EAGER = "pytorch eager fp32"
GOALS = """Goals (H200-class GPU, 16 coils, 256 x 256, R = 4): p99 at most 5 ms; the fp16 engine at
least 3 times faster than eager fp32; quality lost under 0.05 dB."""
NUMBERS = (
    *("load s", "cold ms", "p50 ms", "p95 ms", "p99 ms", "max ms"),
    *("whole p50 ms", "whole p99 ms", "network p50 ms", "device MB"),
)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="installed model or card")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--cases", nargs="+", default=["16x256", "16x320"], help="coils x matrix")
    parser.add_argument("--engines", nargs="+", help="some of the rows; by default all")
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--warm-up", type=int, default=20)
    parser.add_argument(
        "--line-ms", type=float, default=0.0, help="between lines; 0: as fast as they are taken"
    )
    parser.add_argument("--slices", type=int, default=10, help="simulated heads for the quality")
    parser.add_argument("--matrix", type=int, default=192, help="of these heads")
    parser.add_argument("--out", type=Path, default=TABLES / "gpu.md")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        if options.out.exists():
            print("gpu: no GPU here; the table stays as it is (--device cpu rehearses)")
            return
        write(options.out, _text(None, [], options))
        return
    device = torch.device(options.device)
    model = find_model(options.model)
    rows = []
    for case in options.cases:
        coils, matrix = (int(number) for number in case.split("x"))
        rows += _case(model, device, Case(matrix, coils), options)
        # After every case: time on a GPU is short, and what was measured must not be lost.
        write(options.out, _text(model, rows, options))
        plain = {"rows": rows, "machine": _machine(), "repeats": options.repeats}
        plain["line_ms"] = options.line_ms
        write(options.out.with_suffix(".json"), json.dumps(plain, indent=2))


def _case(
    model: Model, device: torch.device, case: Case, options: argparse.Namespace
) -> list[dict[str, Any]]:
    scan = ScanBytes(case)
    examples = simulated_examples("kspace", options.slices, matrix=options.matrix)
    # Its loops' team ends with its work, so that a live session's is the only one.
    beside = PassingThread("beside")
    references = beside.submit(lambda: reference_images(model, examples)).result()
    table = ON_GPU if device.type == "cuda" else ON_CPU
    rows: list[dict[str, Any]] = []
    for label in options.engines or table:
        print(f"gpu: {case.words}: {label}")
        row: dict[str, Any] = {"coils": case.coils, "matrix": case.matrix, "engine": label}
        try:
            gc.collect()  # what the engine before had
            torch.cuda.empty_cache()
            memory = DeviceMemory()
            begin = time.perf_counter()
            engine = beside.submit(partial(table[label], model, device)).result()
            row["load s"] = time.perf_counter() - begin
            row |= _streamed(engine, scan, options)
            row |= beside.submit(partial(_whole, engine, scan, options)).result()
            row["device MB"] = memory.mb()
            parity = partial(measure_parity, model, engine, examples, references=references)
            report = beside.submit(parity).result()
            row |= {"output dB": report.output_db, "lost dB": report.loss_db, "note": ""}
        except (ChpnetError, *FOREIGN) as error:  # of one engine; the others go on
            row["note"] = f"not run: {next(iter(str(error).splitlines()), type(error).__name__)}"
        engine = parity = None  # neither holds the engine's memory any more
        rows.append(row)
    eager = next((row.get("network p50 ms") for row in rows if row["engine"] == EAGER), None)
    complete = []
    for row in rows:
        own = row.get("network p50 ms")
        ratio = eager / own if eager and own else None
        numbers = {name: row.get(name) for name in NUMBERS}
        costs = {"output dB": row.get("output dB"), "lost dB": row.get("lost dB")}
        head = {name: row[name] for name in ("coils", "matrix", "engine")}
        complete.append(
            {**head, **numbers, "faster than eager": ratio, **costs, "note": row["note"]}
        )
    return complete


def _streamed(engine: Engine, scan: ScanBytes, options: argparse.Namespace) -> dict[str, float]:
    """From a slice's last line to its image, in a live session on a thread of its own.

    The session leaves that thread's loops one core.
    """

    def series() -> list[float]:
        usual = engine.name  # of this thread, which has run nothing yet
        session = Session(ScanHeader.from_xml(scan.header), engine=engine, live=True)
        try:
            for line in read_messages(scan.noise):
                session.feed(line)
            count = 1 + options.warm_up + options.repeats
            return [_lap(session, usual, scan, number, options.line_ms) for number in range(count)]
        finally:
            session.close()

    with ThreadPoolExecutor(1, "live") as thread:
        laps = thread.submit(series).result()
    warm = sorted(laps[1 + options.warm_up :])
    return {
        "cold ms": laps[0],
        **{f"p{n} ms": _percentile(warm, n) for n in (50, 95, 99)},
        "max ms": warm[-1],
    }


def _lap(session: Session, engine: str, scan: ScanBytes, number: int, line_ms: float) -> float:
    """Milliseconds from the bytes of a slice's last line to those of its image.

    Raises:
        EngineError: The image is not by the network in this engine.
    """
    *before, last = scan.slice(number)
    begin = time.perf_counter()
    for place, line in enumerate(before, 1):
        _feed(session, line)
        time.sleep(max(0.0, begin + 1e-3 * place * line_ms - time.perf_counter()))
    begin = time.perf_counter()
    (image,) = _feed(session, last)
    (message,) = session.messages(image)
    sent = b"".join(bytes(part) for part in message_parts(message))
    milliseconds = 1e3 * (time.perf_counter() - begin)
    (message,) = read_messages(sent)
    made = dict(message.meta)
    if made.get("ChpnetEngine") != engine:
        raise EngineError(
            f"expected an image by {engine}, found one by "
            f"{made.get('ChpnetEngine') or made['ChpnetFallback']}"
        )
    return milliseconds


def _feed(session: Session, line: bytes) -> list[SessionImage]:
    (acquisition,) = read_messages(line)
    return session.feed(acquisition)


def _whole(engine: Engine, scan: ScanBytes, options: argparse.Namespace) -> dict[str, float]:
    """The whole slice with nothing done ahead, from memory to memory, and the network alone."""
    noise, data = slice_of(scan)
    recorder = Recorder(engine)
    reconstructor = SliceReconstructor(noise, recorder)
    laps = []
    for _ in range(1 + options.warm_up + options.repeats):
        begin = time.perf_counter()
        made = reconstructor(data)  # its pixels are in memory when it returns
        laps.append(1e3 * (time.perf_counter() - begin))
        if made.method != "chpnet":
            raise EngineError(f"the network's image was not sent: {made.fallback}")
    reconstructor.close()
    warm = sorted(laps[1 + options.warm_up :])
    alone = _network_ms(recorder, options.warm_up, options.repeats)
    return {
        **{f"whole p{n} ms": _percentile(warm, n) for n in (50, 99)},
        "network p50 ms": statistics.median(alone),
    }


def _network_ms(recorder: Recorder, warm_up: int, repeats: int) -> list[float]:
    """The network on the last problem: by events on a GPU, by the clock on a CPU."""
    if recorder.last is None:
        raise RuntimeError("the network was not run")
    times = []
    on_gpu = recorder.device.type == "cuda"
    for number in range(warm_up + repeats):
        if on_gpu:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            recorder.run(recorder.last)
            last.record()
            last.synchronize()
            milliseconds = first.elapsed_time(last)
        else:
            begin = time.perf_counter()
            recorder.run(recorder.last)
            milliseconds = 1e3 * (time.perf_counter() - begin)
        if number >= warm_up:
            times.append(milliseconds)
    return times


def _percentile(values: list[float], percent: int) -> float:
    """Of sorted values, by linear interpolation."""
    place = (len(values) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def _machine() -> str:
    text = machine(torch.get_num_threads())
    if torch.cuda.is_available():
        text += f"\nGPU: {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}."
    return text


def _text(model: Model | None, rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    pace = f"one in {options.line_ms:g} ms" if options.line_ms else "as fast as they are taken"
    head = f"""# Latency on a GPU

Made by `benchmarks/gpu.py` (`--device {options.device}`).

Lines come one by one into a live session, {pace}; the clock runs
from the bytes of a slice's last line to those of the message with its image. Coil maps are kept.
"cold": the first slice, with its maps, behind the dry run. "whole": from all lines in memory to
the image in memory, with nothing done ahead: whitening, coil compression, CG-SENSE, network,
checks. "network": alone, by CUDA events (on a CPU by the clock). "device MB": memory of the GPU for
all of this. "output dB": PSNR of the worst image against the float64 reference's; "lost dB": mean
PSNR lost against the truth, simulated heads.
{GOALS}
"""
    if model is None:
        return f"{head}\n**Not measured**: no GPU was at hand. The script was rehearsed on a CPU.\n"
    digits = {name: 1 for name in rows[0] if name.endswith((" ms", " s", "eager"))}
    digits |= {"device MB": 0, "output dB": 1, "lost dB": 4}
    return f"""{head}
{model.card.name} ({model.card.checksum}), R = 4 + 24 lines, {options.repeats} slices after
{options.warm_up} to warm up.

{_machine()}

{markdown_table(rows, digits)}
"""


if __name__ == "__main__":
    main()
