"""Milliseconds for each slice, engine and stage: writes docs/tables/speed.md.

Two simulated slices go through the product's own pipeline, and the network alone runs once more in
each engine, beside the paper-size student under PyTorch eager. Time does not depend on the weights:
where the model is not installed, and for the paper-size student, they are random.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from report import CHECKOUT, TABLES, machine, markdown_table, write

from chpnet_stream.benchmark.estimate import in_words
from chpnet_stream.engines.choice import make_engine
from chpnet_stream.engines.engine import Engine, Problem
from chpnet_stream.engines.processor import has_bfloat16
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.network.chpnet import build_student
from chpnet_stream.network.config import StudentConfig
from chpnet_stream.network.weights import DEFAULT_MODEL, Model, find_model, installed_models
from chpnet_stream.reconstruction import SliceReconstructor
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.slices import Slice, SliceAssembler
from chpnet_stream.simulation.options import SimulationOptions
from chpnet_stream.simulation.scan import simulate_scan
from chpnet_training.export import export_model
from chpnet_training.macs import count_macs
from chpnet_training.recipe import load_recipe

ENGINES = (("onnx", "fp32"), ("pytorch", "fp32"), ("pytorch", "bf16"))
STAGES = ("calibration", "data", "start", "network", "checks", "output")
ACCELERATION = 4
CALIBRATION_LINES = 24
LAP_S, PAPER_S, SIMULATION_S = 0.18, 0.85, 2.0
"""Seconds of a slice of 256 x 256 and its network once more, of the paper-size student, and until a
scan is simulated: for two cores with nothing else to do."""

RECIPE = CHECKOUT / "configs" / "training" / "chpnet-rt.yaml"


@dataclass
class Times:
    """Milliseconds of repetitions."""

    values: list[float]

    @property
    def median(self) -> float:
        """Median in ms."""
        return statistics.median(self.values)

    @property
    def p95(self) -> float:
        """95th percentile in ms, by linear interpolation."""
        if len(self.values) < 2:
            return self.values[0]
        return statistics.quantiles(self.values, n=20, method="inclusive")[-1]


class Recorder:
    """An engine that remembers the last problem it was given."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.card, self.device = engine.name, engine.card, engine.device
        self.engine = engine
        self._problems: list[Problem] = []

    @property
    def last(self) -> Problem:
        """The problem of the last run."""
        return self._problems[-1]

    def run(self, problem: Problem) -> torch.Tensor:
        """See `Engine.run`."""
        self._problems = [problem]
        return self.engine.run(problem)

    def again(self) -> torch.Tensor:
        """Run the last problem once more, without the pipeline around it."""
        return self.engine.run(self.last)


def main() -> None:
    """Run by `make bench`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL, help="installed model or card")
    parser.add_argument(
        "--cases", nargs="+", default=["8x180x230", "16x256x256"], help="coils x lines x columns"
    )
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--paper-repeats", type=int, default=5, help="of the paper-size student")
    parser.add_argument("--out", type=Path, default=TABLES / "speed.md")
    options = parser.parse_args()
    print(f"speed: {in_words(seconds(options))}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="chpnet-speed-") as folder:
        model, weights = _model(options.model, Path(folder))
        paper = build_student(StudentConfig.paper()).eval()
        paper.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        parts = [_heading(model, weights, paper, options)]
        for case in options.cases:
            coils, lines, columns = (int(number) for number in case.split("x"))
            print(f"speed: {coils} coils, {lines} x {columns}")
            scan = Path(folder) / f"{case}.h5"
            noise, data = slice_of(scan, coils, lines, columns)
            parts.append(f"## {coils} coils, {lines} x {columns}\n")
            parts += _case(noise, data, model, paper, options)
    write(options.out, "\n".join(parts))


def seconds(options: argparse.Namespace) -> float:
    """How long all of it takes, roughly."""
    laps = len(ENGINES) * (options.warm_up + options.repeats)
    slice_s = LAP_S * laps + PAPER_S * (1 + options.paper_repeats)
    total = 0.0
    for case in options.cases:
        _, lines, columns = (int(number) for number in case.split("x"))
        total += SIMULATION_S + slice_s * lines * columns / 256**2
    return total


def _case(
    noise: NoiseScan,
    data: Slice,
    model: Model,
    paper: torch.nn.Module,
    options: argparse.Namespace,
) -> list[str]:
    """The two tables of one case: networks alone, and the whole slice by stages."""
    networks: list[dict[str, Any]] = []
    stages: list[dict[str, Any]] = []
    for name, precision in ENGINES:
        if precision == "bf16" and not has_bfloat16():
            continue
        made = make_engine(name, model, torch.device("cpu"), precision=precision)
        engine = Recorder(made)
        laps = _stage_times(noise, data, engine, options)
        alone = repeat(engine.again, options.warm_up, options.repeats)
        networks.append({"network": model.card.name, "engine": engine.name, "times": alone})
        total = Times([sum(parts) for parts in zip(*laps.values(), strict=True)])
        for stage in STAGES:
            times = Times(laps[stage])
            stages.append(_row({"engine": engine.name, "stage": stage}, times))
        stages.append(_row({"engine": engine.name, "stage": "**whole slice**"}, total))

    slow = repeat(_eager(paper, engine.last), 1, options.paper_repeats)
    networks.append({"network": "chpnet (paper size)", "engine": "pytorch-cpu", "times": slow})
    rows = []
    for entry in networks:
        times = entry.pop("times")
        rows.append({**_row(entry, times), "faster than paper size": slow.median / times.median})
    digits = {"median ms": 1, "p95 ms": 1}
    return [
        markdown_table(rows, {**digits, "faster than paper size": 1}) + "\n",
        markdown_table(stages, digits) + "\n",
    ]


def _row(names: dict[str, Any], times: Times) -> dict[str, Any]:
    return {**names, "median ms": times.median, "p95 ms": times.p95}


def _stage_times(
    noise: NoiseScan, data: Slice, engine: Recorder, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Milliseconds of every stage; a new pipeline each time, so that each makes its maps.

    Random weights may fail the checks: the times of the stages before are the same, and the
    conventional image that is made then is left out.
    """
    laps: dict[str, list[float]] = defaultdict(list)
    for number in range(options.warm_up + options.repeats):
        result = SliceReconstructor(noise, engine)(data)
        if number >= options.warm_up:
            for stage in STAGES:
                laps[stage].append(result.milliseconds[stage])
    return laps


def _eager(network: torch.nn.Module, problem: Problem) -> Callable[[], object]:
    def run() -> object:
        with torch.inference_mode():
            return network(problem.start, problem.adjoint, problem.normal, problem.noise)

    return run


def repeat(run: Callable[[], Any], warm_up: int, repeats: int) -> Times:
    """Times of some runs, after some to warm up."""
    values = []
    for number in range(warm_up + repeats):
        begin = time.perf_counter()
        run()
        if number >= warm_up:
            values.append(1e3 * (time.perf_counter() - begin))
    return Times(values)


def slice_of(path: Path, coils: int, lines: int, columns: int) -> tuple[NoiseScan, Slice]:
    """The slice of a simulated scan with a noise scan."""
    options = SimulationOptions(
        matrix=(lines, columns),
        fov_mm=(float(lines), float(columns)),
        slices=1,
        coils=coils,
        acceleration=ACCELERATION,
        calibration_lines=CALIBRATION_LINES,
    )
    simulate_scan(path, options)
    with ScanFile(path) as scan:
        noise = NoiseScan(scan.header.noise_bandwidth)
        assembler = SliceAssembler(scan.header)
        for acquisition in scan.acquisitions():
            if int(acquisition.flags) & flags.NOISE:
                noise.add(acquisition)
            for data in assembler.feed(acquisition):
                return noise, data
        (data,) = assembler.flush()
    return noise, data


def _model(name: str, folder: Path) -> tuple[Model, str]:
    """The model and where its weights are from: random ones where it is not installed."""
    if name in installed_models() or name.endswith(".json"):
        return find_model(name), "trained"
    recipe = load_recipe(RECIPE)
    torch.manual_seed(0)
    student = build_student(recipe.student)
    checkpoint = folder / "random.ckpt"
    state = {
        "recipe": recipe.model_dump(mode="json"),
        "networks": {"student": student.state_dict()},
        "step": 0,
    }
    torch.save(state, checkpoint)
    card = export_model(
        checkpoint, folder, data=(), metrics={}, limits=(), training="not trained: random weights"
    )
    return find_model(card), "random"


def _heading(
    model: Model, weights: str, paper: torch.nn.Module, options: argparse.Namespace
) -> str:
    config = StudentConfig.paper()
    sizes = [
        {
            "network": model.card.name,
            "parameters": f"{model.card.parameters:,}",
            "GMAC at 320 x 320": model.card.gmac_320,
            "iterations": model.card.student.iterations,
            "weights": weights,
        },
        {
            "network": "chpnet (paper size)",
            "parameters": f"{sum(p.numel() for p in paper.parameters()):,}",
            "GMAC at 320 x 320": count_macs(build_student(config), 320, 320) / 1e9,
            "iterations": config.iterations,
            "weights": "random",
        },
    ]
    return f"""# Speed

Made by `make bench` (`benchmarks/speed.py`).

Simulated slices, R = {ACCELERATION} + {CALIBRATION_LINES} lines, noise scan, 8 virtual coils,
batch of one. {model.card.name}: median and 95th percentile of {options.repeats} repetitions after
{options.warm_up} to warm up; chpnet (paper size): of {options.paper_repeats} after 1. The ratio is
that of the medians, to the paper-size student under PyTorch eager in the same run. MACs are those
of the convolutions, without the Fourier transforms. Stages: calibration (whitening, compression,
coil maps; once for each slice position of a scan), data (A* y), start (CG-SENSE), network, checks
(data consistency), output (magnitude, field of view).

{machine(torch.get_num_threads())}

{markdown_table(sizes, {"GMAC at 320 x 320": 2})}
"""


if __name__ == "__main__":
    main()
