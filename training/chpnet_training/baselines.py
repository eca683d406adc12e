"""Conventional baselines by the BART toolbox, and their scores on the real raw brain.

`chpnet-train evaluate` prints the table.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chpnet_stream.errors import ConfigurationError
from chpnet_training.bart import bart_espirit, bart_pics
from chpnet_training.scoring import Score, coil_norm, object_mask, raw_reference, score_raw

PICS_OPTIONS: dict[str, tuple[str, ...]] = {
    "cg-sense": ("-S", "-l2", "-r", "0.01", "-i", "30"),
    "tv": ("-S", "-R", "T:3:0:0.005", "-i", "100", "-e"),
    "l1-wavelet": ("-S", "-l1", "-r", "0.005", "-i", "100", "-e"),
}
"""Options of ``bart pics`` by method. TV works along dimensions 0 and 1 (bit mask 3)."""


def equispaced_mask(lines: int, acceleration: int, calibration_lines: int) -> np.ndarray:
    """Returns bool `ky`: lines 0, R, 2R ... and the ``calibration_lines`` around lines // 2."""
    mask = np.zeros(lines, dtype=bool)
    mask[::acceleration] = True
    first = lines // 2 - calibration_lines // 2
    mask[first : first + calibration_lines] = True
    return mask


def raw_brain_problem(
    data_root: Path,
    acceleration: int = 4,
    calibration_lines: int = 24,
    maps: np.ndarray | None = None,
) -> dict[str, Any]:
    """Returns the quality test on the real brain (``brain_full.h5``), which never trains anything.

    Args:
        data_root: folder that holds ``espirit-full-brain-8ch``.
        acceleration: every how manieth line is kept.
        calibration_lines: central lines that are kept as well, and calibrate.
        maps: coil maps `coils y x` to score with; BART's ESPIRiT where not given.

    Returns:
        kspace_full: complex64 `coils ky kx` (8 x 180 x 230).
        kspace: the same, zero where not sampled.
        mask: bool `ky`, the sampled lines.
        maps: complex64 `coils y x`.
        reference: float64 `y x`, see `raw_reference`.
        object: bool `y x`, see `object_mask`.

    Raises:
        InputError: if the file is missing or not fully sampled.
    """
    from chpnet_training.readers.mrd import read_full_kspace

    full = read_full_kspace(data_root / "espirit-full-brain-8ch" / "brain_full.h5")
    mask = equispaced_mask(full.shape[1], acceleration, calibration_lines)
    kspace = np.where(mask[:, np.newaxis], full, np.complex64(0))
    if maps is None:
        maps = bart_espirit(kspace, calibration_lines=calibration_lines)
    reference = raw_reference(full, maps)
    return {
        "kspace_full": full,
        "kspace": kspace,
        "mask": mask,
        "maps": maps,
        "reference": reference,
        "object": object_mask(reference),
    }


@dataclass(frozen=True)
class Baseline:
    """One row of the table: a method, its score, its image `y x` and the seconds it took."""

    method: str
    score: Score
    image: np.ndarray
    seconds: float


def run_baselines(problem: dict[str, Any], methods: Sequence[str] | None = None) -> list[Baseline]:
    """Scores zero-filled and the methods of `PICS_OPTIONS` on a `raw_brain_problem`."""
    norm = coil_norm(problem["maps"])
    rows = []
    for method in methods or ("zero-filled", *PICS_OPTIONS):
        started = time.perf_counter()
        if method == "zero-filled":
            image = raw_reference(problem["kspace"], problem["maps"])
            seconds = time.perf_counter() - started
        elif method in PICS_OPTIONS:
            solved, seconds = bart_pics(problem["kspace"], problem["maps"], PICS_OPTIONS[method])
            image = np.abs(solved) * norm
        else:
            raise ConfigurationError(
                f"unknown baseline {method!r}; expected zero-filled or one of {list(PICS_OPTIONS)}."
            )
        result = score_raw(image, problem["reference"], problem["object"])
        rows.append(Baseline(method, result, image, seconds))
    return rows
