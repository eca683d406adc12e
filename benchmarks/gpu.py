"""Latency of a slice on a GPU, engine by engine: writes docs/tables/gpu.md and gpu.json.

A slice is complete, its last readout is in memory, and the clock runs until its image is back in
memory: whitening, coil compression, CG-SENSE, network, checks. Coil maps are kept, as they are from
the second repetition on. The network alone is timed by CUDA events. Every engine that can run here
does; the others say why not. `--device cpu` rehearses all of it on a machine without a GPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from report import TABLES, machine, markdown_table, write

from chpnet_stream.benchmark.plan import Case
from chpnet_stream.benchmark.references import Recorder, slice_of
from chpnet_stream.benchmark.scan_bytes import ScanBytes
from chpnet_stream.engines.choice import FOREIGN
from chpnet_stream.engines.engine import Engine
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.errors import ChpnetError
from chpnet_stream.network.weights import DEFAULT_MODEL, Model, find_model
from chpnet_stream.reconstruction import SliceReconstructor
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
GOALS = """Goals (H200-class GPU, 16 coils, 256 x 256, R = 4): p99 of a slice at most 5 ms; the fp16
engine at least 3 times faster than eager fp32; quality lost under 0.05 dB."""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="installed model or card")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--cases", nargs="+", default=["16x256", "16x320"], help="coils x matrix")
    parser.add_argument("--engines", nargs="+", help="some of the rows; by default all")
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--warm-up", type=int, default=20)
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
        write(options.out.with_suffix(".json"), json.dumps(plain, indent=2))


def _case(
    model: Model, device: torch.device, case: Case, options: argparse.Namespace
) -> list[dict[str, Any]]:
    scan = ScanBytes(case)
    examples = simulated_examples("kspace", options.slices, matrix=options.matrix)
    references = reference_images(model, examples)
    table = ON_GPU if device.type == "cuda" else ON_CPU
    rows: list[dict[str, Any]] = []
    for label in options.engines or table:
        print(f"gpu: {case.coils} coils, {case.matrix} x {case.matrix}: {label}")
        row: dict[str, Any] = {"coils": case.coils, "matrix": case.matrix, "engine": label}
        try:
            begin = time.perf_counter()
            engine = table[label](model, device)
            row["load s"] = time.perf_counter() - begin
            row |= _measured(engine, scan, options)
            report = measure_parity(model, engine, examples, references=references)
            row |= {"output dB": report.output_db, "lost dB": report.loss_db, "note": ""}
        except (ChpnetError, *FOREIGN) as error:  # of one engine; the others go on
            row["note"] = f"not run: {next(iter(str(error).splitlines()), type(error).__name__)}"
        rows.append(row)
    eager = next((row.get("network p50 ms") for row in rows if row["engine"] == EAGER), None)
    names = ("load s", "cold ms", "p50 ms", "p95 ms", "p99 ms", "max ms", "network p50 ms")
    complete = []
    for row in rows:
        own = row.get("network p50 ms")
        ratio = eager / own if eager and own else None
        numbers = {name: row.get(name) for name in names}
        costs = {"output dB": row.get("output dB"), "lost dB": row.get("lost dB")}
        head = {name: row[name] for name in ("coils", "matrix", "engine")}
        complete.append(
            {**head, **numbers, "faster than eager": ratio, **costs, "note": row["note"]}
        )
    return complete


def _measured(engine: Engine, scan: ScanBytes, options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds of the whole slice, and of the network alone."""
    noise, data = slice_of(scan)
    recorder = Recorder(engine)
    reconstructor = SliceReconstructor(noise, recorder)
    laps = []
    for _ in range(options.warm_up + options.repeats + 1):
        begin = time.perf_counter()
        made = reconstructor(data)  # its pixels are in memory when it returns
        laps.append(1e3 * (time.perf_counter() - begin))
        if made.method != "chpnet":
            raise RuntimeError(f"the network's image was not sent: {made.fallback}")
    warm = sorted(laps[1 + options.warm_up :])
    alone = _network_ms(recorder, options.warm_up, options.repeats)
    return {
        "cold ms": laps[0],
        **{f"p{n} ms": _percentile(warm, n) for n in (50, 95, 99)},
        "max ms": warm[-1],
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
    head = f"""# Latency on a GPU

Made by `benchmarks/gpu.py` (`--device {options.device}`).

A slice is complete in memory; the clock runs until its image is in memory again: whitening, coil
compression, CG-SENSE, network, checks. Coil maps are kept. "cold": the first slice, with its maps.
"network": alone, by CUDA events (on a CPU by the clock). "output dB": PSNR of the worst image
against the float64 reference's; "lost dB": mean PSNR lost against the truth, simulated heads.
{GOALS}
"""
    if model is None:
        return f"{head}\n**Not measured**: no GPU was at hand. The script was rehearsed on a CPU.\n"
    digits = {name: 1 for name in rows[0] if name.endswith((" ms", " s", "eager"))}
    digits |= {"output dB": 1, "lost dB": 4}
    return f"""{head}
{model.card.name} ({model.card.checksum}), R = 4 + 24 lines, {options.repeats} slices after
{options.warm_up} to warm up.

{_machine()}

{markdown_table(rows, digits)}
"""


if __name__ == "__main__":
    main()
