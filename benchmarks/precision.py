"""What every engine and precision of a CPU costs and saves: writes docs/tables/precision.md.

Quality against the float64 reference on simulated heads and, where it is there, on the real brain;
the time of the network alone, in turns with the others, so that a busy machine is so for all.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from report import CHECKOUT, TABLES, machine, markdown_table, write

from chpnet_stream.benchmark.plan import Case
from chpnet_stream.benchmark.references import Recorder, slice_of
from chpnet_stream.benchmark.scan_bytes import ScanBytes
from chpnet_stream.engines.engine import Engine
from chpnet_stream.engines.onnx import OnnxEngine
from chpnet_stream.engines.openvino import OpenVinoEngine
from chpnet_stream.engines.processor import has_bfloat16
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.errors import EngineError
from chpnet_stream.network.weights import DEFAULT_MODEL, Model, find_model
from chpnet_stream.reconstruction import SliceReconstructor
from chpnet_training.evaluation import find_scan
from chpnet_training.parity import (
    CALIBRATION_HEAD,
    Example,
    measure_parity,
    measured_examples,
    reference_images,
    simulated_examples,
)
from chpnet_training.quantize import quantize_model

CPU = torch.device("cpu")
MAKE = {
    ("onnx", "fp32"): lambda model: OnnxEngine(model),
    ("onnx", "int8"): lambda model: OnnxEngine(model, precision="int8"),
    ("openvino", "fp32"): lambda model: OpenVinoEngine(model),
    ("openvino", "bf16"): lambda model: OpenVinoEngine(model, precision="bf16"),
    ("openvino", "int8"): lambda model: OpenVinoEngine(model, precision="int8"),
    ("pytorch", "fp32"): lambda model: PyTorchEngine(model, CPU),
    ("pytorch", "bf16"): lambda model: PyTorchEngine(model, CPU, precision="bf16"),
}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    shared = os.environ.get("CHPNET_SHARED_DATA", str(CHECKOUT.parent / "shared" / "data"))
    parser.add_argument("--model", default=DEFAULT_MODEL, help="installed model or card")
    parser.add_argument("--data", type=Path, default=Path(shared), help="folder or scan")
    parser.add_argument("--slices", type=int, default=10, help="simulated slices")
    parser.add_argument("--matrix", type=int, default=192, help="of the simulated slices")
    parser.add_argument("--timed-matrix", type=int, default=256)
    parser.add_argument("--coils", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--out", type=Path, default=TABLES / "precision.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chpnet-precision-") as folder:
        model = _with_int8(find_model(options.model), Path(folder), options)
        simulated = simulated_examples("kspace", options.slices, matrix=options.matrix)
        measured: list[Example] = []
        if options.data.exists():
            measured = measured_examples(find_scan(options.data), model.card)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        work = _times(_made(model), options, time.process_time)
        torch.set_num_threads(threads)
        engines = _made(model)
        times = _times(engines, options)
        print("precision: float64 references")
        examples = [(part, reference_images(model, part)) for part in (simulated, measured)]
        rows = [
            _row(model, kind, engine, times, work, examples) for kind, engine in engines.items()
        ]
    load = os.getloadavg()[0]
    write(options.out, _text(model, rows, options, len(measured), load))


def _with_int8(model: Model, folder: Path, options: argparse.Namespace) -> Model:
    """A copy with int8 graphs, calibrated on other heads than those that it is measured on."""
    for path in model.files():
        shutil.copy(path, folder)
    calibration = simulated_examples(
        "kspace", options.slices, head=CALIBRATION_HEAD, matrix=options.matrix
    )
    copied = Model(model.card, folder)
    graphs = quantize_model(copied, [example.problem for example in calibration])
    for i, graph in enumerate(graphs):
        copied.onnx(i, "int8").write_bytes(graph)
    sums = tuple(hashlib.sha256(graph).hexdigest() for graph in graphs)
    return Model(model.card.model_copy(update={"int8_sha256": sums}), folder)


def _made(model: Model) -> dict[tuple[str, str], Engine]:
    """All engines that are installed, with as many threads as PyTorch has now."""
    engines: dict[tuple[str, str], Engine] = {}
    for kind, make in MAKE.items():
        try:
            engines[kind] = make(model)
        except EngineError as error:
            print(f"precision: {error}")
    return engines


def _times(
    engines: dict[tuple[str, str], Engine],
    options: argparse.Namespace,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[tuple[str, str], float]:
    """Median milliseconds of the network, all engines in turns on one problem."""
    noise, data = slice_of(ScanBytes(Case(options.timed_matrix, options.coils)))
    recorder = Recorder(next(iter(engines.values())))
    SliceReconstructor(noise, recorder)(data)
    laps: dict[tuple[str, str], list[float]] = {kind: [] for kind in engines}
    for number in range(options.repeats + 2):
        for kind, engine in engines.items():
            recorder.engine = engine
            begin = clock()
            recorder.again()
            if number >= 2:
                laps[kind].append(1e3 * (clock() - begin))
    return {kind: statistics.median(values) for kind, values in laps.items()}


def _row(
    model: Model,
    kind: tuple[str, str],
    engine: Engine,
    times: dict[tuple[str, str], float],
    work: dict[tuple[str, str], float],
    examples: Sequence[tuple[list[Example], list[torch.Tensor]]],
) -> dict[str, Any]:
    print(f"precision: {engine.name}")
    heads, brain = (
        measure_parity(model, engine, part, references=references) if part else None
        for part, references in examples
    )
    if heads is None:
        raise SystemExit("precision: expected at least one simulated slice (--slices)")
    return {
        "engine": kind[0],
        "precision": kind[1],
        "network ms": times[kind],
        "CPU ms": work[kind],
        "less work": work["onnx", "fp32"] / work[kind],
        "output dB": min(heads.output_db, brain.output_db if brain else heads.output_db),
        "lost, heads, dB": heads.loss_db,
        "worst head, dB": heads.worst_loss_db,
        "lost, brain, dB": brain.loss_db if brain else None,
        "worst, brain, dB": brain.worst_loss_db if brain else None,
    }


def _text(
    model: Model,
    rows: list[dict[str, Any]],
    options: argparse.Namespace,
    measured: int,
    load: float,
) -> str:
    digits = {"network ms": 1, "CPU ms": 1, "less work": 2, "output dB": 1}
    digits |= {name: 4 for name in rows[0] if name.endswith(", dB")}
    brain = f"{measured} undersampled slices of the real brain (R = 2, 4, 6)" if measured else ""
    native = "has" if has_bfloat16() else "has no"
    return f"""# Engines and precisions on a CPU

Made by `benchmarks/precision.py`.

{model.card.name} ({model.card.checksum}). "output dB": PSNR of the worst image against the float64
reference's, of magnitudes. "lost": PSNR against the truth that the float64 reference has and this
has not, mean and worst image; {options.slices} simulated heads of {options.matrix} x
{options.matrix}{f", {brain}" if brain else ""}. Tolerance: 0.05 dB. int8: calibrated on
{options.slices} other simulated heads, first and last convolution left as they are.

"network ms": median of {options.repeats} runs of the network with its data consistency,
{options.coils} coils {options.timed_matrix} x {options.timed_matrix}, all engines in turns, by the
clock; the machine's load was {load:.1f} (1 for each core is full), and where other programs compete
for the cores these times say more about them than about the engine. "CPU ms": the same with one
thread, in time of the processor, which depends on the load little; "less work": ONNX Runtime's fp32
over it. This CPU {native} bfloat16 instructions.

{machine(torch.get_num_threads())}

{markdown_table(rows, digits)}
"""


if __name__ == "__main__":
    main()
