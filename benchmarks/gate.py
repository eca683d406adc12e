"""The quality gate on good, damaged and foreign scans and on faulty networks.

Writes docs/tables/gate.md and docs/pictures/gate.png (ROC curves of refusals, and of marks). Good
scans are of pictures that neither the network nor its limits have seen. Findings are kept in a
file, so that a run can be cut off and goes on; those of another model are not gone on with.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gate_cases import CASES, Case
from report import CHECKOUT, TABLES, machine, markdown_table, write

from chpnet_stream.damaged_lines import LIMIT
from chpnet_stream.engines.pytorch import PyTorchEngine
from chpnet_stream.errors import ChpnetError
from chpnet_stream.network.gate_limits import GateLimits
from chpnet_stream.network.weights import DEFAULT_MODEL, find_model
from chpnet_stream.quality import problem_of
from chpnet_stream.whole_file import write_whole
from chpnet_training.bank import SourceBank
from chpnet_training.gate_calibration import good_scans, upper_bound
from chpnet_training.gate_scans import EVERY, GateScan, Judged, judge

PICTURE = CHECKOUT / "docs" / "pictures" / "gate.png"
GOOD = "good, seed "
BAD_SEED = 1
SAVED_EVERY = 200
HARM_DB = 1.0
"""An image counts as harmful where its error is larger than CG-SENSE's by this."""
DIGITS = {
    "slices": 0,
    "refused %": 0,
    "marked %": 0,
    "harmful": 0,
    "of these refused %": 0,
    "AUC": 3,
    "AUC of the mark": 3,
}

Finding = dict[str, Any]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="of `chpnet-train prepare`")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="installed model or card")
    parser.add_argument("--good", type=int, default=3200, help="good slices of every seed")
    parser.add_argument("--bad", type=int, default=50, help="slices of every other kind")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4], help="of good scans")
    parser.add_argument("--part", choices=("all", "good", "bad", "table"), default="all")
    parser.add_argument("--groups", nargs="+", default=["network", "data", "unusual", "scale"])
    parser.add_argument("--findings", type=Path, default=Path("gate-findings.json"))
    parser.add_argument("--out", type=Path, default=TABLES / "gate.md")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # refusals are what is counted here
    began = time.process_time()
    bank = SourceBank.load(options.data)
    engine = PyTorchEngine(find_model(options.model), torch.device("cpu"))
    known = Findings(options.findings, engine.card.weights_sha256)
    for seed in options.seeds if options.part in ("all", "good") else ():
        make = functools.partial(_good, bank, engine, options.good, seed)
        known.add(f"{GOOD}{seed}", options.good, make)
    for number, case in enumerate(CASES if options.part in ("all", "bad") else ()):
        if case.group not in options.groups:
            continue
        make = functools.partial(_bad, bank, engine, case, number, options)
        known.add(case.name, options.bad, make)
    print(f"gate: {time.process_time() - began:.0f} s of one core")
    if options.part in ("all", "table"):
        write(options.out, table(known.found, engine.card.gate, bank))
        plot(known.found, engine.card.gate, options.picture)


class Findings:
    """What was found so far, in a file.

    Args:
        path: The file.
        model: Checksum of the weights that the findings are of.
    """

    def __init__(self, path: Path, model: str) -> None:
        self.path, self.model = path, model
        self.found: dict[str, list[Finding]] = {}
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept.get("model") != model:
                sys.exit(f"gate: expected findings of this model in {path.name}, found another's")
            self.found = kept["found"]

    def add(self, name: str, count: int, make: Callable[[int], Iterator[Finding]]) -> None:
        """Find what is not known yet, and keep it; `make` goes on behind what is known."""
        rows = self.found.setdefault(name, [])
        if len(rows) == count:
            return
        del rows[count:]
        for finding in make(len(rows)) if len(rows) < count else ():
            rows.append(finding)
            if len(rows) % SAVED_EVERY == 0:
                self._save()
        self._save()
        print(f"gate: {name}, {len(rows)} slices", flush=True)

    def _save(self) -> None:
        write_whole(self.path, json.dumps({"model": self.model, "found": self.found}))


def _good(
    bank: SourceBank, engine: PyTorchEngine, count: int, seed: int, known: int
) -> Iterator[Finding]:
    for number, scan in enumerate(good_scans(bank, "val", count, seed)):
        if number >= known:
            yield _finding(lambda s=scan: judge(s, engine))


def _bad(
    bank: SourceBank, engine: PyTorchEngine, case: Case, number: int, options: Any, known: int
) -> Iterator[Finding]:
    rng = np.random.default_rng([BAD_SEED, number])
    scans = good_scans(bank, "val", options.bad * EVERY, 100 + BAD_SEED)
    small = (scan for i, scan in enumerate(scans) if i % EVERY)
    for count, scan in enumerate(_first(small, options.bad)):
        altered = case.scan(scan, rng) if case.scan else scan
        faulty = case.engine(engine, rng) if case.engine else engine
        spoil = (lambda x, r=rng: case.spoil(x, r)) if case.spoil else None
        if count >= known:
            yield _finding(lambda s=altered, e=faulty, f=spoil: judge(s, e, spoil=f))


def _first(scans: Iterator[GateScan], count: int) -> Iterator[GateScan]:
    for _ in range(count):
        yield next(scans)


def _finding(make: Callable[[], Judged]) -> Finding:
    try:
        made = make()
    except ChpnetError as error:
        return {"lost": f"{type(error).__name__}: {error}", "worse": None}
    quality = None if made.quality is None else vars(made.quality)
    damage = None if made.damage is None else vars(made.damage)
    found = {"quality": quality, "worse": made.worse_db, "method": made.method, "gap": made.gap}
    return {**found, "damage": damage}


def score(finding: Finding, limits: GateLimits) -> float:
    """The largest value of a finding relative to its limit: above one it is refused."""
    q = finding.get("quality")
    if q is None or not math.isfinite(q["energy_ratio"]):
        return math.inf
    values = [q["energy_ratio"] / limits.energy, q["misfit"] / limits.misfit]
    values += [q["brightness"] / limits.brightness, q["local"] / limits.local, q["residual"]]
    values += [q.get("overstated", 0.0) / limits.overstated]
    values += [a / b for a, b in zip(q["change"], limits.change, strict=True)]
    return max(v if not math.isnan(v) else math.inf for v in values)


def refused(finding: Finding, limits: GateLimits) -> bool:
    """Whether the network's image is not sent, by the gate or for lack of one."""
    q = finding.get("quality")
    if q is None or not math.isfinite(q["energy_ratio"]):
        return True
    from chpnet_stream.quality import Quality

    return problem_of(Quality(**q), limits)[0] is not None


def doubt(finding: Finding, limits: GateLimits) -> float:
    """The same of what marks the data: above one they are marked."""
    q, lines = finding.get("quality"), finding.get("damage")
    values = [0.0]
    if q and not math.isnan(q["inconsistency"]):  # NaN is of images that are refused anyway
        values += [q["inconsistency"] / limits.inconsistency]
    if lines:
        values += [math.inf if lines["empty"] or lines["copies"] else lines["miss"] / LIMIT]
    return max(values)


def marked(finding: Finding, limits: GateLimits) -> bool:
    """Whether the data are told to be damaged."""
    return doubt(finding, limits) > 1


def harmful(finding: Finding) -> bool:
    """Whether the network's image was worse than the conventional one."""
    worse = finding["worse"]
    return worse is None or math.isnan(worse) or worse > HARM_DB


def inspected(good: list[Finding]) -> list[Finding]:
    """Findings of slices whose lines were looked at: those of older versions' were not."""
    return [f for f in good if f.get("damage") is not None]


def area(bad: list[float], good: list[float]) -> float:
    """Area under the ROC curve: chance that a bad slice scores above a good one."""
    ranks = np.searchsorted(np.sort(good), bad, side="left")
    right = np.searchsorted(np.sort(good), bad, side="right")
    return float((ranks + right).mean() / 2 / len(good))


def good_of(found: dict[str, list[Finding]]) -> tuple[list[Finding], list[str]]:
    """Findings of good scans, of all seeds, and these."""
    seeds = sorted((name.removeprefix(GOOD) for name in found if name.startswith(GOOD)), key=int)
    return [f for seed in seeds for f in found[f"{GOOD}{seed}"]], seeds


def table(found: dict[str, list[Finding]], limits: GateLimits, bank: SourceBank) -> str:
    """The page."""
    good, seeds = good_of(found)
    alarms = [f for f in good if refused(f, limits)]
    bad_alarms = sum(harmful(f) for f in alarms)
    nothing = len(alarms) - bad_alarms
    scores = [score(f, limits) for f in good]
    looked = inspected(good)
    doubts = [doubt(f, limits) for f in looked]
    marks = sum(marked(f, limits) for f in looked)
    lost = sum("lost" in f for rows in found.values() for f in rows)
    harm = [f for c in _tried(found, "network") for f in found[c.name] if harmful(f)]
    parts = [
        "# The quality gate in numbers\n",
        "Written by `python benchmarks/gate.py --data DATA`. "
        f"[What is checked](../quality-gate.md).\n\n{machine(1)}\n",
        "## Good scans\n",
        f"{len(good)} simulated slices (seeds {', '.join(seeds)}) of {len(bank.indices('val'))} "
        "pictures that neither the network nor its limits have seen: other anatomy, contrast, "
        "coils (4 to 12), "
        "noise (0.2 to 6 %), R = 2 to 8, random lines, partial Fourier; 64 to 96 lines, every "
        f"{EVERY}th slice 160 to 256.\n",
        f"- refused: {len(alarms)} of {len(good)} "
        f"({100 * len(alarms) / len(good):.3f} %; 95 % upper bound "
        f"{100 * upper_bound(len(alarms), len(good)):.3f} %)",
        f"- of these, images that were worse than CG-SENSE's by {HARM_DB:g} dB, and so rightly "
        f"refused: {bad_alarms}; refused for nothing: {nothing} "
        f"({100 * nothing / len(good):.3f} %, upper bound "
        f"{100 * upper_bound(nothing, len(good)):.3f} %)",
        f"- marked for their data: {marks} of {len(looked)} whose lines were looked at (95 % upper "
        f"bound {100 * upper_bound(marks, len(looked)):.3f} %; largest value relative to its "
        f"limit: median {np.median(doubts):.2f}, 99.9 % {np.quantile(doubts, 0.999):.2f}, largest "
        f"{max(doubts):.2f})",
        f"- worse than CG-SENSE's image by {HARM_DB:g} dB, and sent: "
        f"{sum(harmful(f) and not refused(f, limits) for f in good)}",
        f"- score (largest value relative to its limit): median {np.median(scores):.2f}, "
        f"99.9 % {np.quantile(scores, 0.999):.2f}, largest {max(scores):.2f}\n",
        "## Everything else\n",
        f"Harmful: the network's image was further from the truth than CG-SENSE's by {HARM_DB:g} "
        "dB, or there was none. AUC: area under the ROC curve against the good scans. Of all "
        f"{len(harm)} harmful images of faulty networks the gate refused "
        f"{100 * np.mean([refused(f, limits) for f in harm]):.1f} %. Slices without any image: "
        f"{lost}.\n",
    ]
    titles = {
        "network": "Faulty networks",
        "data": "Damaged data: bad for both images",
        "unusual": "Unlike the training data",
        "scale": "Scales",
    }
    for group, title in titles.items():
        rows = [_row(c, found[c.name], limits, scores, doubts) for c in _tried(found, group)]
        if rows:
            parts += [f"### {title}\n", markdown_table(rows, DIGITS) + "\n"]
    return "\n".join(parts)


def _tried(found: dict[str, list[Finding]], group: str) -> list[Case]:
    return [case for case in CASES if case.group == group and case.name in found]


def _row(
    case: Case, rows: list[Finding], limits: GateLimits, good: list[float], doubts: list[float]
) -> dict[str, Any]:
    no = [refused(f, limits) for f in rows]
    harm = [n for n, f in zip(no, rows, strict=True) if harmful(f)]
    return {
        case.group if case.group != "scale" else "scale ": case.name,
        "should": case.should,
        "slices": len(rows),
        "refused %": 100 * float(np.mean(no)),
        "marked %": 100 * float(np.mean([marked(f, limits) for f in rows])),
        "harmful": len(harm),
        "of these refused %": 100 * float(np.mean(harm)) if harm else None,
        "AUC": area([score(f, limits) for f in rows], good),
        "AUC of the mark": area([doubt(f, limits) for f in rows], doubts),
    }


def plot(found: dict[str, list[Finding]], limits: GateLimits, path: Path) -> None:
    """ROC curves, false alarms on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    good = np.array([score(f, limits) for f in good_of(found)[0]])
    network = [f for c in _tried(found, "network") for f in found[c.name]]
    curves = {
        f"any faulty network's image worse by {HARM_DB:g} dB": [f for f in network if harmful(f)],
        "any faulty network's image": network,
    }
    names = ("shifted by 1 pixel", "disc added, radius 3, 30 %", "disc added, radius 6, 15 %")
    names += ("image x 1.05", "weights wrong by 30 %", "blurred", "noise added, 10 %")
    curves |= {name: found[name] for name in names}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5), layout="constrained")
    _curves(left, good, {n: [score(f, limits) for f in rows] for n, rows in curves.items()})
    left.set(title="Refused by the gate")
    marks = {c.name: [doubt(f, limits) for f in found[c.name]] for c in _tried(found, "data")}
    marks = {n: values for n, values in marks.items() if not n.startswith("noise scan")}
    lines = inspected(good_of(found)[0])
    _curves(right, np.array([doubt(f, limits) for f in lines]), marks)
    right.set(title="Marked for their data")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"wrote {path.name}")


def _curves(axes: Any, good: np.ndarray, bad: dict[str, list[float]]) -> None:
    lowest = 1 / len(good)
    thresholds = np.concatenate([[math.inf], np.unique(good)[::-1], [0.0]])
    alarm = np.array([(good >= t).mean() for t in thresholds])
    for name, values in bad.items():
        caught = np.array([(np.array(values) >= t).mean() for t in thresholds])
        label = f"{name} (n = {len(values)})"
        axes.step(np.maximum(alarm, lowest), caught, where="post", label=label)
    axes.axvline(1e-3, color="grey", linestyle=":", linewidth=1)
    note = axes.text(1.05e-3, 0.02, "1 in 1,000", color="grey", clip_on=True)
    note.set_in_layout(False)  # it may lie outside
    axes.set(
        xscale="log",
        xlim=(lowest, 1),
        ylim=(0, 1.02),
        xlabel=f"false alarms (share of {len(good)} good slices)",
        ylabel="share of bad slices",
    )
    if bad:
        axes.legend(fontsize="x-small", loc="lower right")
    axes.grid(visible=True, alpha=0.3)


if __name__ == "__main__":
    main()
