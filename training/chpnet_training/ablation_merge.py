"""One report of a study whose seeds were trained on several machines."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chpnet_stream.errors import InputError
from chpnet_training.ablation_origins import Trained
from chpnet_training.ablation_report import summarise
from chpnet_training.ablation_scores import SCORES, networks_of, read_scores
from chpnet_training.machine import NOT_RECORDED
from chpnet_training.recipe import unlike
from chpnet_training.runlog import VALIDATION
from chpnet_training.study import Study

AGAIN = "give the `ablate` command of it again there, which trains nothing twice"


@dataclass(frozen=True)
class Part:
    """What one machine has made of a study.

    Attributes:
        path: Its report, NAME.json.
        study: The study, with the seeds of this machine.
        rows: Its scores, as the report has them.
        runs: Its finished runs.
        made_by: How it was made, in words; empty in reports of older versions.
    """

    path: Path
    study: Study
    rows: list[dict[str, Any]]
    runs: list[Trained]
    made_by: str

    @property
    def seeds_said(self) -> str:
        """Its seeds, in words."""
        numbers = ", ".join(map(str, self.study.seeds))
        return f"seed {numbers}" if len(self.study.seeds) == 1 else f"seeds {numbers}"

    def marks(self, network: str) -> dict[str, str]:
        """Fingerprints of the scores of a network, by condition; none where it has none."""
        return {r["condition"]: r["fingerprint"] for r in self.rows if r["network"] == network}


@dataclass(frozen=True)
class Merged:
    """Several parts as one study; attributes as those of `Part`.

    Attributes:
        study: With the seeds of all parts.
        rows: Of all parts.
        runs: Of all parts.
        logs: Files of validations by run, where there are any.
    """

    study: Study
    rows: list[dict[str, Any]]
    runs: list[Trained]
    logs: dict[str, Path]


def read_part(path: Path) -> Part:
    """Read a report and the scores beside it.

    Args:
        path: NAME.json, as `chpnet-train ablate` wrote it; scores.csv lies beside it.

    Raises:
        InputError: If one of them is missing or no such file, or they don't belong together.
    """
    try:
        content = json.loads(path.read_bytes())
        study = Study.model_validate(content["study"])
        cells = content["cells"]
        if content.get("merged"):
            raise InputError(
                f"{path}: expected a report of `chpnet-train ablate`, found a merged one; give all "
                "the reports that it was made of"
            )
        if "runs" not in content:
            raise InputError(f"{path}: expected the study's runs, found none; {AGAIN}")
        runs = [Trained(**one | {"hardware": tuple(one["hardware"])}) for one in content["runs"]]
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected a report of `chpnet-train ablate` (NAME.json), found another file"
        ) from error
    part = Part(path, study, _rows(path, study, runs), runs, str(content.get("made by", "")))
    _check_cells(part, cells)
    return part


def _rows(path: Path, study: Study, runs: Sequence[Trained]) -> list[dict[str, Any]]:
    """The scores of the networks and conditions that a report has."""
    file = path.parent / SCORES
    if not file.exists():
        raise InputError(
            f"{path}: expected {SCORES} of the study's --out folder beside it, found none; put it "
            "there"
        )
    try:
        found = read_scores(file)
        labels = {item.label for item in networks_of(study, file, {one.run for one in runs})}
        asked = {(label, condition.name) for label in labels for condition in study.conditions}
        rows = [row for row in found if (row["network"], row["condition"]) in asked]
        slices: dict[tuple[str, str, str], set[int]] = {}
        for row in rows:
            key = (row["network"], row["condition"], row["fingerprint"])
            slices.setdefault(key, set()).add(row["slice"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: expected scores of a study, found another file") from error
    whole = {key[:2] for key, numbers in slices.items() if len(numbers) == study.test_slices}
    if whole != asked or len(rows) != len(asked) * study.test_slices:
        raise InputError(
            f"{file}: expected {study.test_slices} slices of each of {len(labels)} networks under "
            f"{len(study.conditions)} conditions, as {path.name} has them, found other rows; "
            f"{AGAIN}"
        )
    return rows


def _check_cells(part: Part, cells: Sequence[dict[str, Any]]) -> None:
    """Make sure that a report is of its scores, and not of earlier ones."""
    told = {(cell["condition"], cell["arm"]): cell for cell in cells}
    for cell in summarise(part.rows):
        there = told.pop((cell.condition, cell.arm), {})
        for name in ("seeds", "psnr", "ssim", "nmse"):
            if not math.isclose(there.get(name, math.nan), getattr(cell, name), rel_tol=1e-9):
                told[cell.condition, cell.arm] = there
    if told:
        (condition, arm), *_ = told
        raise InputError(
            f"{part.path}: expected the scores of {SCORES} beside it, found others ({arm}, "
            f"{condition}); {AGAIN}"
        )


def merge(parts: Sequence[Part]) -> Merged:
    """Make one study of several parts.

    Where all parts have the same teacher it counts once; else each seed has its own.

    Raises:
        InputError: If they are not parts of one study, on the same data, in the same precision, or
            a run is in two of them.
    """
    parts = sorted(parts, key=lambda part: part.study.seeds)
    for part in parts[1:]:
        _check_same(parts[0], part)
    _check_precisions(parts)
    _check_runs(parts)
    once = {"start", "teacher"} if _has_one_teacher(parts) else {"start"}
    rows: list[dict[str, Any]] = []
    logs: dict[str, Path] = {}
    for part in parts:
        known = once & {row["network"] for row in rows}
        rows += [row for row in part.rows if row["network"] not in known]
        for one in part.runs:
            log = part.path.parent / one.run / VALIDATION
            if log.exists():
                logs.setdefault(one.run, log)
    runs = [one for part in parts for one in part.runs]
    if "teacher" in once:  # where it was trained tells more than where it was taken to
        teachers = sorted((one for one in runs if one.arm == "teacher"), key=lambda t: t.adopted)
        runs = [*teachers[:1], *(one for one in runs if one.arm != "teacher")]
    seeds = sorted({seed for part in parts for seed in part.study.seeds})
    study = parts[0].study.model_copy(update={"seeds": tuple(seeds)})
    return Merged(study, rows, runs, logs)


def _check_same(first: Part, part: Part) -> None:
    """Refuse parts of another study, or of other data."""
    there, here = (
        one.study.model_dump(mode="json", exclude={"seeds", "title"}) for one in (part, first)
    )
    other = unlike(there, here)
    if other:
        raise InputError(
            f"{part.path}: expected a part of the study of {first.path}, found another one "
            f"({'; '.join(other[:3])})"
        )
    if part.marks("start") != first.marks("start"):
        raise InputError(
            f"{part.path}: expected scores on the test slices of {first.path}, found those of "
            "other data, or of another version of chpnet-train; the last paragraph of each report "
            "(NAME.md) has the checksum of its data"
        )


def _check_precisions(parts: Sequence[Part]) -> None:
    """A study has one precision; that of a teacher from elsewhere does not count."""
    found: dict[str, Part] = {}
    for part in parts:
        for one in part.runs:
            if not one.adopted and one.precision != NOT_RECORDED:
                found.setdefault(one.precision, part)
    if len(found) > 1:
        said = ", ".join(f"{precision} in {part.path}" for precision, part in found.items())
        raise InputError(f"expected runs of one precision, found {said}")


def _check_runs(parts: Sequence[Part]) -> None:
    """Refuse a run that is in two parts: which of them counts?"""
    found: dict[str, Part] = {}
    for part in parts:
        for one in part.runs:
            if one.arm != "teacher" and one.run in found:
                raise InputError(
                    f"{part.path}: expected other seeds than those of {found[one.run].path}, found "
                    f"{one.run} in both; {AGAIN}, with the seeds that are to count "
                    "(--set 'seeds=[...]')"
                )
            found[one.run] = part


def _has_one_teacher(parts: Sequence[Part]) -> bool:
    """Whether all parts have the same one.

    Raises:
        InputError: If they have not, and a part has several seeds: its teacher would count once for
            all of them.
    """
    marks = [mark for part in parts if (mark := part.marks("teacher"))]
    if all(mark == marks[0] for mark in marks):
        return True
    for part in parts:
        if len(part.study.seeds) > 1:
            raise InputError(
                f"{part.path}: expected the same teacher in all reports, or one seed in each, "
                f"found {part.seeds_said} and different teachers; train the teacher once, and give "
                "it to the other machines by `ablate --teacher`"
            )
    return False
