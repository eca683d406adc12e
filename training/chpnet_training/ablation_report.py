"""The report of an ablation: tables as Markdown and JSON, curves and pictures."""

from __future__ import annotations

import csv
import json
import statistics
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from chpnet_stream.whole_file import whole_file, write_whole
from chpnet_training.ablation import runs_of
from chpnet_training.ablation_origins import Trained, table_of_training, trained_runs
from chpnet_training.ablation_scores import MEASURES
from chpnet_training.recipe import Recipe
from chpnet_training.runlog import VALIDATION
from chpnet_training.study import Study

ORDER = ("start", "unet", "none", "frozen", "dynamic-parameters", "dynamic", "teacher")


@dataclass(frozen=True)
class Cell:
    """Scores of one arm under one condition.

    Attributes:
        arm: Name of the arm.
        condition: Name of the condition.
        seeds: Number of seeds.
        psnr: Mean over seeds of the mean over slices, dB.
        psnr_spread: Sample standard deviation over seeds, dB; None for one seed.
        ssim: Mean.
        ssim_spread: As above.
        nmse: Mean.
        hfen: Mean.
        gap_closed: (S - S_none) / (T - S_none) of the PSNR, of the seeds that both have, T the
            teacher before it taught (where seeds have teachers of their own, those of these
            seeds); None where one of the three is missing, or the teacher is no better.
    """

    arm: str
    condition: str
    seeds: int
    psnr: float
    psnr_spread: float | None
    ssim: float
    ssim_spread: float | None
    nmse: float
    hfen: float
    gap_closed: float | None


@dataclass(frozen=True)
class Difference:
    """What one arm has over another, seed by seed.

    Attributes:
        arm: The one.
        over: The other.
        condition: Name of the condition.
        psnr: Mean over seeds of the difference, dB.
        spread: Its sample standard deviation over seeds, dB; None for one seed.
        every_seed: Whether it has the same sign for every seed; None for one seed.
    """

    arm: str
    over: str
    condition: str
    psnr: float
    spread: float | None
    every_seed: bool | None


def summarise(rows: Sequence[dict[str, Any]]) -> list[Cell]:
    """The table of a study from the rows of its `scores.csv`."""
    means = _by_seed(rows)
    cells = []
    for (condition, arm), seeds in means.items():
        columns = {name: [seed[name] for seed in seeds.values()] for name in ("psnr", "ssim")}
        cells.append(
            Cell(
                arm,
                condition,
                len(seeds),
                statistics.fmean(columns["psnr"]),
                _spread(columns["psnr"]),
                statistics.fmean(columns["ssim"]),
                _spread(columns["ssim"]),
                statistics.fmean(seed["nmse"] for seed in seeds.values()),
                statistics.fmean(seed["hfen"] for seed in seeds.values()),
                _gap_closed(means, condition, arm),
            )
        )
    places = {name: place for place, name in enumerate(ORDER)}
    return sorted(cells, key=lambda c: (c.condition, places.get(c.arm, len(ORDER)), c.arm))


def differences(rows: Sequence[dict[str, Any]]) -> list[Difference]:
    """Dynamic over none, over frozen, and over dynamic parameters; frozen over none."""
    means = _by_seed(rows)
    pairs = [("frozen", "none"), ("dynamic-parameters", "none"), ("dynamic", "none")]
    pairs += [("dynamic", "frozen"), ("dynamic", "dynamic-parameters")]
    found = []
    for condition in dict.fromkeys(row["condition"] for row in rows):
        for arm, over in pairs:
            ours, theirs = means.get((condition, arm), {}), means.get((condition, over), {})
            values = [ours[s]["psnr"] - theirs[s]["psnr"] for s in ours if s in theirs]
            if values:
                mean, spread = statistics.fmean(values), _spread(values)
                same = all(v > 0 for v in values) or all(v < 0 for v in values)
                every = same if len(values) > 1 else None
                found.append(Difference(arm, over, condition, mean, spread, every))
    return found


def _by_seed(
    rows: Sequence[dict[str, Any]],
) -> dict[tuple[str, str], dict[float, dict[str, float]]]:
    """Means over slices, by condition and arm, then seed."""
    sums: dict[tuple[str, str], dict[float, list[dict[str, Any]]]] = {}
    for row in rows:
        arms = sums.setdefault((row["condition"], row["arm"]), {})
        arms.setdefault(row["seed"], []).append(row)
    return {
        key: {
            seed: {name: statistics.fmean(row[name] for row in group) for name in MEASURES}
            for seed, group in seeds.items()
        }
        for key, seeds in sums.items()
    }


def _gap_closed(
    means: dict[tuple[str, str], dict[float, dict[str, float]]], condition: str, arm: str
) -> float | None:
    """Of the seeds that the arm and `none` both have; of all where the arm has none of its own."""
    none, teacher = means.get((condition, "none")), means.get((condition, "teacher"))
    if none is None or teacher is None:
        return None
    ours = means[(condition, arm)]
    if arm not in ("start", "teacher"):
        shared = ours.keys() & none.keys()
        if len(teacher) > 1:  # of reports that were merged: each seed has its own
            shared &= teacher.keys()
            teacher = {seed: teacher[seed] for seed in shared}
        if not shared:
            return None
        ours = {seed: ours[seed] for seed in shared}
        none = {seed: none[seed] for seed in shared}
    score, base, top = (
        statistics.fmean(seed["psnr"] for seed in one.values()) for one in (ours, none, teacher)
    )
    return (score - base) / (top - base) if top > base else None


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def write_report(
    study: Study,
    rows: Sequence[dict[str, Any]],
    folder: Path,
    out: Path,
    footer: str = "",
    *,
    runs: Sequence[Trained] | None = None,
    logs: Mapping[str, Path] | None = None,
) -> list[Path]:
    """Write `NAME.md`, `NAME.json` and `NAME-curves.png`, and say where.

    The text shows `NAME-images.png` where that lies in the same folder (`draw_images`).

    Args:
        study: The study.
        rows: Its scores.
        folder: Its folder.
        out: Where to write.
        footer: Last paragraph: hardware, versions, command.
        runs: The finished runs, where reports are merged and they are not in the folder.
        logs: See `draw_curves`.
    """
    out.mkdir(parents=True, exist_ok=True)
    cells, contrasts = summarise(rows), differences(rows)
    merged = runs is not None
    runs = trained_runs(study, folder) if runs is None else runs
    files = [out / f"{study.name}.md", out / f"{study.name}.json", out / f"{study.name}-curves.png"]
    draw_curves(study, folder, files[2], logs)
    pictures = [files[2].name]
    if (out / f"{study.name}-images.png").exists():
        pictures.append(f"{study.name}-images.png")
    splits = {str(row["split"]) for row in rows}
    text = _markdown(study, cells, contrasts, pictures, footer, splits, runs)
    write_whole(files[0], text)
    content = {
        "study": study.model_dump(mode="json"),
        "test splits": sorted(splits),
        "cells": [vars(cell) for cell in cells],
        "differences": [vars(item) for item in contrasts],
        "runs": [vars(one) for one in runs],
        "made by": footer,
        "merged": merged,
    }
    write_whole(files[1], json.dumps(content, indent=1, allow_nan=False) + "\n")
    return files


def _markdown(
    study: Study,
    cells: Sequence[Cell],
    contrasts: Sequence[Difference],
    pictures: Sequence[str],
    footer: str,
    splits: Set[str],
    runs: Sequence[Trained],
) -> str:
    lines = [f"# {study.title or study.name}", ""]
    for condition in study.conditions:
        lines += [f"## {condition.name}", ""]
        lines += [
            "| arm | seeds | PSNR (dB) | SSIM | NMSE | HFEN | gap closed |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for cell in cells:
            if cell.condition == condition.name:
                lines.append(
                    f"| {cell.arm} | {cell.seeds} | {_pm(cell.psnr, cell.psnr_spread, 2)} | "
                    f"{_pm(cell.ssim, cell.ssim_spread, 4)} | {cell.nmse:.4f} | {cell.hfen:.4f} | "
                    f"{_percent(cell.gap_closed)} |"
                )
        lines += [
            "",
            "| difference of PSNR, seed by seed | dB | same sign for every seed |",
            "|---|---:|---|",
        ]
        for item in contrasts:
            if item.condition == condition.name:
                value = _pm(item.psnr, item.spread, 2, sign=True)
                said = {True: "yes", False: "no", None: "–"}[item.every_seed]
                lines.append(f"| {item.arm} over {item.over} | {value} | {said} |")
        lines.append("")
    spread = "One seed: there is no spread. Its"
    if any(cell.psnr_spread is not None for cell in cells):
        spread = "The spread is the standard deviation over seeds; each seed's"
    lines += [
        f"{spread} score is the mean over {study.test_slices} test slices. *gap closed* is "
        "(S - none) / (teacher - none) of the seeds that both have, with the teacher as it was "
        "before it taught; *teacher "
        "after ...* is the same teacher when the student was done.",
        "",
        _said_of_test(splits),
        "",
        *_said_of_teachers(cells),
        f"Seeds: {', '.join(map(str, study.seeds))}, {_said_of_seeds(study.recipe)} "
        f"{_said_of_scans(study.recipe)} Magnitudes are compared, with the maximum of each true "
        "slice as peak of PSNR and SSIM: simulated slices belong to no volume.",
        "",
        *(line for name in pictures for line in (f"![{name}]({name})", "")),
        "## What was trained",
        "",
        _table_of_networks(study, runs),
        "",
        *table_of_training(runs),
    ]
    if footer:
        lines += [footer, ""]
    return "\n".join(lines)


TESTED_ON = {
    "test": "show subjects of the split `test`, which neither training nor validation has seen",
    "val": "show the subjects of the validation, since the data have no split `test` "
    "(`chpnet-train prepare --test` makes one), but not its slices: contrast, coils, noise and "
    "masks are drawn anew",
}


def _said_of_test(splits: Set[str]) -> str:
    """Whom the test slices show."""
    told = [said for split, said in TESTED_ON.items() if split in splits]
    return f"The test slices {'; others '.join(told)}. They are the same for all arms and seeds."


def _said_of_teachers(cells: Sequence[Cell]) -> list[str]:
    """Whether there is more than one."""
    if all(cell.seeds == 1 for cell in cells if cell.arm == "teacher"):
        return []
    return [
        "The seeds do not share one teacher: each has that of its machine, and *gap closed* is "
        "towards those of the same seeds. So the spread is that of the teachers as well.",
        "",
    ]


def _said_of_seeds(recipe: Recipe) -> str:
    """What they change."""
    if recipe.data.fixed:
        return "of first weights and the order of the slices."
    return "of first weights and gates; all runs see the same endless slices in the same order."


def _said_of_scans(recipe: Recipe) -> str:
    """What is simulated, where a condition does not say otherwise."""
    if recipe.student.task == "superres":
        fine = recipe.superres
        pixels = {"blocks": "means of blocks", "centre": "the centre of k-space"}[fine.measured]
        return (
            f"Magnitude images of {fine.matrix} x {fine.matrix} pixels, measured as {pixels}, with "
            f"noise of {_range(fine.noise, 100)} % of the 99th percentile."
        )
    scan = recipe.simulation
    return (
        f"Simulated scans of {_range(scan.matrix_y)} lines and {_range(scan.matrix_x)} columns, of "
        f"which {scan.strip} are taken; {_range(scan.coils)} coils, compressed to at most "
        f"{scan.virtual_coils}; {_range(scan.calibration)} calibration lines; "
        f"{100 * scan.random_lines:g} % random masks, the others regular, "
        f"{100 * scan.partial_fourier:g} % partial Fourier; noise of {_range(scan.noise, 100)} % "
        "of the 99th percentile (standard deviation of a real part)."
    )


def _range(ends: tuple[float, float], times: float = 1) -> str:
    first, last = (f"{times * end:g}" for end in ends)
    return first if first == last else f"{first} to {last}"


def _table_of_networks(study: Study, runs: Sequence[Trained]) -> str:
    from chpnet_training.macs import macs_of_recipe
    from chpnet_training.runs import build_network

    recipe = study.recipe
    lines = [
        "| network | parameters | MMAC a slice | ms a slice | steps |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in ("student", "teacher", *(("unet",) if study.unet else ())):
        network = build_network(recipe, name)
        size = sum(p.numel() for p in network.parameters())
        planned = (recipe.for_teacher() if name == "teacher" else recipe).optimizer.steps
        # those of a teacher that was trained elsewhere are not in this recipe
        foreign = name == "teacher" and any(run.adopted for run in runs)
        steps = "–" if foreign else f"{planned:,}"
        macs = macs_of_recipe(network, recipe)
        spent = f"{_milliseconds(network, recipe):.1f}"
        lines.append(f"| {name} | {size:,} | {macs / 1e6:,.0f} | {spent} | {steps} |")
    threads = torch.get_num_threads()
    lines += ["", f"MMAC and ms (PyTorch, {threads} threads) are without data consistency."]
    return "\n".join(lines)


def _milliseconds(network: nn.Module, recipe: Recipe, runs: int = 5) -> float:
    """Median time of a network, without data consistency, for the largest slice of the recipe."""
    superres, scan = recipe.student.task == "superres", recipe.simulation
    side = recipe.superres.matrix
    shape = (1, 1, side, side) if superres else (1, 2, scan.matrix_y[1], scan.strip)
    image, noise = torch.ones(shape), torch.ones(1, 1, 1, 1)
    spent = []
    with torch.inference_mode():
        for _ in range(runs + 1):
            begin = time.perf_counter()
            network.eval()(image, image, lambda x: x, noise)
            spent.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(spent[1:])


def _pm(mean: float, spread: float | None, digits: int, *, sign: bool = False) -> str:
    value = f"{mean:+.{digits}f}" if sign else f"{mean:.{digits}f}"
    return value if spread is None else f"{value} ± {spread:.{digits}f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def draw_curves(
    study: Study, folder: Path, path: Path, logs: Mapping[str, Path] | None = None
) -> None:
    """Validation PSNR of all arms, usefulness, correction and open blocks over the steps.

    Args:
        study: The study.
        folder: Its folder.
        path: PNG to write.
        logs: Files of validations by run, where they are not in the folder.
    """
    places = {run.name: folder / run.name / VALIDATION for run in runs_of(study)} | dict(logs or {})
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7))
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, 2).ravel()
    views = (
        ("psnr", "validation PSNR (dB), averaged weights"),
        ("train_usefulness", "usefulness of the teaching"),
        ("train_corrected", "share of the teacher's error energy corrected"),
        ("train_open_blocks", "open blocks of the teacher"),
    )
    colours = {arm: f"C{i}" for i, arm in enumerate([*study.arms, "unet", "teacher"])}
    for axes, (column, title) in zip(grid, views, strict=True):
        labelled: set[str] = set()
        for run in runs_of(study):
            if run.arm == "teacher":
                continue
            steps, values = _curve(places[run.name], column)
            if not values:
                continue
            label = run.arm if run.arm not in labelled else None
            labelled.add(run.arm)
            axes.plot(steps, values, color=colours[run.arm], label=label, linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if labelled:
            axes.legend(fontsize=8)
    _, teacher = _curve(places["teacher"], "psnr")
    if teacher:
        label = "teacher, before teaching"
        grid[0].axhline(teacher[-1], color="black", linestyle="--", linewidth=1, label=label)
        grid[0].legend(fontsize=8)
    figure.tight_layout()
    with whole_file(path) as part:
        figure.savefig(part, dpi=110, format="png", metadata={"Software": "chpnet-train"})


def _curve(path: Path, column: str) -> tuple[list[float], list[float]]:
    if not path.exists():
        return [], []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get(column)]
    return [float(row["step"]) for row in rows], [float(row[column]) for row in rows]
