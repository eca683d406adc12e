"""Quality against arithmetic and time for other sizes of the student: docs/tables/pareto.md.

Every candidate is trained by configs/training/pareto.yaml (the same slices, steps and seed) and run
by ONNX Runtime on one simulated slice of the size that the table says. Finished candidates are kept
in --out, so that the command can be stopped and started again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from report import CHECKOUT, TABLES, machine, markdown_table, write
from speed import Recorder, repeat, slice_of

from chpnet_stream.engines.choice import make_engine
from chpnet_stream.network.weights import find_model
from chpnet_stream.reconstruction import SliceReconstructor
from chpnet_training.export import export_model
from chpnet_training.macs import count_macs
from chpnet_training.recipe import load_recipe
from chpnet_training.runs import build_network
from chpnet_training.trainer import CHECKPOINT

RECIPE = CHECKOUT / "configs" / "training" / "pareto.yaml"
SHIPPED = "widths 32 64 96, T = 3"
CANDIDATES: dict[str, dict[str, Any]] = {
    SHIPPED: {},
    "widths 16 32 48, T = 3": {"widths": [16, 32, 48]},
    "widths 24 48 72, T = 3": {"widths": [24, 48, 72]},
    "widths 48 96 144, T = 3": {"widths": [48, 96, 144]},
    "widths 32 64, T = 3": {"widths": [32, 64]},
    "widths 32 64 96, T = 2": {"iterations": 2},
    "widths 32 64 96, T = 4": {"iterations": 4},
    "widths 16 32 48, T = 5": {"widths": [16, 32, 48], "iterations": 5},
    "widths 16 32 64, T = 3, not folded": {"unshuffle": 1, "widths": [16, 32, 64]},
    "widths 8 32 64, T = 3, not folded": {"unshuffle": 1, "widths": [8, 32, 64]},
    "widths 8 16 32 64, T = 3, not folded": {"unshuffle": 1, "widths": [8, 16, 32, 64]},
    "widths 8 16 32 64, T = 2, not folded": {
        "unshuffle": 1,
        "widths": [8, 16, 32, 64],
        "iterations": 2,
    },
    "widths 16 32 64 96, T = 2, not folded": {
        "unshuffle": 1,
        "widths": [16, 32, 64, 96],
        "iterations": 2,
    },
    "widths 32 64 96, T = 3, 1 CG step": {"cg_steps": 1},
    "widths 32 64 96, T = 3, 5 CG steps": {"cg_steps": 5},
}


@dataclass
class Point:
    """One candidate.

    Attributes:
        name: What it is.
        parameters: Weights.
        gmac: Multiply-accumulates at 320 x 320, in 10^9.
        psnr: On held-back slices, dB.
        ssim: On held-back slices.
        milliseconds: Median of the network with data consistency, on ONNX Runtime.
        efficient: No other candidate is both better and faster.
    """

    name: str
    parameters: int
    gmac: float
    psnr: float
    ssim: float
    milliseconds: float
    efficient: bool = False


def main() -> None:
    """Train, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="file of `chpnet-train prepare`")
    parser.add_argument("--out", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--slices", type=int, default=800, help="training slices, simulated once")
    parser.add_argument("--case", default="8x256x256", help="coils x lines x columns")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, help="of the trainings")
    parser.add_argument("--only", nargs="+", help="candidates by name")
    parser.add_argument("--table", type=Path, default=TABLES / "pareto.md")
    options = parser.parse_args()
    options.changed = changed(parser, options)
    chosen = {n: c for n, c in CANDIDATES.items() if not options.only or n in options.only}
    for number, (name, changes) in enumerate(chosen.items(), 1):
        print(f"pareto: training {number} of {len(chosen)}, {name}", flush=True)
        _train(name, changes, options)
    points = [_measure(name, changes, options) for name, changes in chosen.items()]
    mark_efficient(points)
    picture = options.table.parent.parent / "pictures" / "pareto.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw(points, picture)
    write(options.table, _page(points, options))


def _place(name: str, options: argparse.Namespace) -> Path:
    out: Path = options.out
    return out / name.replace(" ", "-").replace(",", "").replace("=", "")


def _settings(changes: dict[str, Any], options: argparse.Namespace) -> list[str]:
    settings = [f"student.{key}={json.dumps(value)}" for key, value in changes.items()]
    settings += [f"data.fixed={options.slices}", f"optimizer.steps={options.steps}"]
    return [*settings, f"validation.every={options.steps}"]


def _train(name: str, changes: dict[str, Any], options: argparse.Namespace) -> None:
    words = ["student", str(RECIPE), "--data", str(options.data), "--workers", "0", "--json"]
    words += ["--out", str(_place(name, options)), "--cache", str(options.out / "data")]
    if options.threads:
        words += ["--threads", str(options.threads)]
    for setting in _settings(changes, options):
        words += ["--set", setting]
    command = [sys.executable, "-m", "chpnet_training", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own command


def _measure(name: str, changes: dict[str, Any], options: argparse.Namespace) -> Point:
    checkpoint = _place(name, options) / CHECKPOINT
    scores = torch.load(checkpoint, map_location="cpu", weights_only=True)["scores"]
    recipe = load_recipe(RECIPE, tuple(_settings(changes, options)))
    network = build_network(recipe, "student")
    coils, lines, columns = (int(number) for number in options.case.split("x"))
    with tempfile.TemporaryDirectory(prefix="chpnet-pareto-") as folder:
        card = export_model(
            checkpoint, Path(folder), data=(), metrics={}, limits=(), training="pareto candidate"
        )
        engine = Recorder(make_engine("onnx", find_model(card), torch.device("cpu")))
        noise, data = slice_of(Path(folder) / "scan.h5", coils, lines, columns)
        SliceReconstructor(noise, engine)(data)
        times = repeat(engine.again, 3, options.repeats)
    return Point(
        name,
        sum(p.numel() for p in network.parameters()),
        count_macs(network, 320, 320) / 1e9,
        scores["psnr"],
        scores["ssim"],
        times.median,
    )


def changed(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """Options that are not as they are by default, without those that say where files are."""
    names = ("steps", "slices", "case", "repeats", "threads")
    values = {name: getattr(options, name) for name in names}
    words = [f" --{n} {v}" for n, v in values.items() if v != parser.get_default(n)]
    if options.only:
        words.append(" --only " + " ".join(f"'{name}'" for name in options.only))
    return "".join(words)


def mark_efficient(points: list[Point]) -> None:
    """Mark the points that no other one beats in both quality and time."""
    for point in points:
        point.efficient = not any(
            other.psnr >= point.psnr
            and other.milliseconds <= point.milliseconds
            and (other.psnr > point.psnr or other.milliseconds < point.milliseconds)
            for other in points
        )


def draw(points: list[Point], path: Path) -> None:
    """PSNR against milliseconds and against MACs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.5))
    FigureCanvasAgg(figure)
    views = (("milliseconds", "ms a slice, ONNX Runtime"), ("gmac", "GMAC at 320 x 320"))
    for axes, (column, label) in zip(figure.subplots(1, 2), views, strict=True):
        for point in points:
            x = getattr(point, column)
            marker = "s" if point.name == SHIPPED else "o"
            axes.scatter(x, point.psnr, marker=marker, color="C0" if point.efficient else "0.6")
            axes.annotate(
                point.name.replace("widths ", ""),
                (x, point.psnr),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=7,
            )
        front = sorted((getattr(p, column), p.psnr) for p in points if p.efficient)
        if column == "milliseconds":
            axes.plot(*zip(*front, strict=True), color="C0", linewidth=1)
        axes.set_xlabel(label)
        axes.set_ylabel("PSNR (dB), held-back slices")
        axes.grid(alpha=0.3)
        axes.margins(x=0.15)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": "chpnet-stream benchmarks"})


def _page(points: list[Point], options: argparse.Namespace) -> str:
    rows = [
        {
            "student": f"**{p.name}** (shipped)" if p.name == SHIPPED else p.name,
            "parameters": f"{p.parameters:,}",
            "GMAC at 320 x 320": p.gmac,
            "PSNR dB": p.psnr,
            "SSIM": p.ssim,
            "ms": p.milliseconds,
            "on the front": "yes" if p.efficient else "",
        }
        for p in sorted(points, key=lambda p: p.milliseconds)
    ]
    digits = {"GMAC at 320 x 320": 2, "PSNR dB": 2, "SSIM": 4, "ms": 1}
    return f"""# Sizes of the student

Made by `python benchmarks/pareto.py --data DATA --out OUT{options.changed}`, DATA by
`chpnet-train prepare` of brain-tumor-mri/Training and mr-volumes.

Every candidate was trained for {options.steps} steps of two slices by configs/training/pareto.yaml
(simulated, 96 x 96, 4 virtual coils, R = 4 and 8, one seed) and scored on 64 held-back ones:
short trainings, good for comparing sizes, not for the quality of a finished model. ms: median of
{options.repeats} runs of the network with its data consistency, one slice of {options.case}
(coils x lines x columns), R = 4, 8 virtual coils, on ONNX Runtime.

![Quality against time and arithmetic](../pictures/pareto.png)

{markdown_table(rows, digits)}

{machine(torch.get_num_threads())}
"""


if __name__ == "__main__":
    main()
