"""Conventional baselines by the BART toolbox, and their scores on the real raw brain.

Run ``python -m chpnet_training.baselines --data DIR`` for the table. BART (Uecker et al.) is the
program ``bart`` of Debian's package of that name; only files go to and fro.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chpnet_stream.errors import ConfigurationError, InputError
from chpnet_training.scoring import Score, coil_norm, object_mask, raw_reference, score_raw

COIL_AXIS = 3
"""BART's dimensions: 0 readout, 1 and 2 phase encoding, 3 coils, 4 sets of maps."""

PICS_OPTIONS: dict[str, tuple[str, ...]] = {
    "cg-sense": ("-S", "-l2", "-r", "0.005", "-i", "30"),
    "tv": ("-S", "-R", "T:3:0:0.005", "-i", "100", "-e"),
    "l1-wavelet": ("-S", "-l1", "-r", "0.005", "-i", "100", "-e"),
}
"""Options of ``bart pics`` by method. TV works along dimensions 0 and 1 (bit mask 3)."""


def write_cfl(path: Path, array: np.ndarray) -> None:
    """Writes ``path.hdr`` and ``path.cfl``: complex64 in column-major order, as BART reads it."""
    path.with_suffix(".hdr").write_text(
        "# Dimensions\n" + " ".join(str(size) for size in array.shape) + "\n", encoding="ascii"
    )
    array.astype("<c8").ravel(order="F").tofile(path.with_suffix(".cfl"))


def read_cfl(path: Path) -> np.ndarray:
    """Returns the complex64 array of ``path.hdr`` and ``path.cfl`` (path without suffix).

    Raises:
        InputError: if a file is missing, or the size is not that of the header.
    """
    header, data = path.with_suffix(".hdr"), path.with_suffix(".cfl")
    for part in (header, data):
        if not part.exists():
            raise InputError(f"{part}: no such file; a BART array is a pair of .hdr and .cfl.")
    lines = header.read_text(encoding="ascii").splitlines()
    numbers = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    try:
        shape = tuple(int(size) for size in numbers.split())
    except ValueError as error:
        raise InputError(f"{header}: found {numbers!r}; expected dimensions as integers.") from error
    expected = 8 * int(np.prod(shape)) if shape else 0
    if data.stat().st_size < max(expected, 8):
        raise InputError(
            f"{data}: {data.stat().st_size} bytes; expected {expected} for dimensions {shape}."
        )
    return np.fromfile(data, dtype="<c8", count=int(np.prod(shape))).reshape(shape, order="F")


def to_bart(array: np.ndarray) -> np.ndarray:
    """Returns `coils y x` in BART's order `x y 1 coils`."""
    return array.transpose(2, 1, 0)[:, :, np.newaxis, :]


def from_bart(array: np.ndarray) -> np.ndarray:
    """Returns BART's `x y 1 [coils]` as `coils y x`, or `y x` where there are no coils."""
    squeezed = array.reshape(*array.shape[:2], -1) if array.ndim > 2 else array[..., np.newaxis]
    ordered = squeezed.transpose(2, 1, 0)
    return np.ascontiguousarray(ordered[0] if ordered.shape[0] == 1 else ordered)


def run_bart(
    arguments: Sequence[str], inputs: Sequence[np.ndarray], *, timeout: float = 600
) -> tuple[np.ndarray, float]:
    """Runs ``bart`` on arrays in BART's order.

    Args:
        arguments: command and options, for example ``["fft", "-u", "3"]``.
        inputs: arrays in the order in which the command wants its files.
        timeout: seconds after which the program is stopped.

    Returns:
        The command's output array and the seconds that the program took.

    Raises:
        ConfigurationError: if BART is not installed.
        InputError: if BART fails; its last line is quoted.
    """
    program = shutil.which("bart")
    if program is None:
        raise ConfigurationError(
            "the program `bart` was not found; the baselines need it. "
            "Install it (Debian: apt-get install bart) or leave the baselines out."
        )
    with tempfile.TemporaryDirectory(prefix="chpnet-bart-") as folder:
        names = []
        for number, array in enumerate(inputs):
            write_cfl(Path(folder) / f"in{number}", array)
            names.append(f"in{number}")
        started = time.perf_counter()
        try:
            done = subprocess.run(  # noqa: S603 - our own argument list, no shell
                [program, *arguments, *names, "out"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(f"`bart {arguments[0]}` was stopped after {timeout:.0f} s.") from error
        seconds = time.perf_counter() - started
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
            raise InputError(f"`bart {' '.join(arguments)}` failed ({done.returncode}): {said}")
        return read_cfl(Path(folder) / "out"), seconds


def bart_espirit(calibration: np.ndarray, *, calibration_lines: int = 24) -> np.ndarray:
    """Returns ESPIRiT coil maps, complex64 `coils y x` (``ecalib -m1``).

    Zero outside the object; inside, sum |S|^2 = 1. Uecker et al. (MRM 71:990, 2014).

    Args:
        calibration: k-space `coils ky kx` whose centre is fully sampled; the maps get its size.
        calibration_lines: side of the central square that is used (``-r``).
    """
    maps, _ = run_bart(["ecalib", "-m1", f"-r{calibration_lines}"], [to_bart(calibration)])
    return from_bart(maps)


def bart_pics(
    kspace: np.ndarray, maps: np.ndarray, options: Sequence[str]
) -> tuple[np.ndarray, float]:
    """Returns the image of ``bart pics``, complex64 `y x`, and the seconds it took.

    Args:
        kspace: undersampled k-space `coils ky kx`, zero where not measured.
        maps: coil maps `coils y x`.
        options: options of ``pics``, as in `PICS_OPTIONS`.
    """
    image, seconds = run_bart(["pics", *options], [to_bart(kspace), to_bart(maps)])
    return from_bart(image), seconds


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


def main(arguments: list[str] | None = None) -> int:
    """Prints the table of baselines on the real brain; returns the exit code."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m chpnet_training.baselines")
    parser.add_argument("--data", type=Path, required=True, help="the shared data folder")
    parser.add_argument("--acceleration", type=int, default=4)
    parser.add_argument("--calibration-lines", type=int, default=24)
    options = parser.parse_args(arguments)
    try:
        problem = raw_brain_problem(options.data, options.acceleration, options.calibration_lines)
        rows = run_baselines(problem)
    except (InputError, ConfigurationError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(
        f"brain_full.h5, 8 coils, R = {options.acceleration} + {options.calibration_lines} lines "
        f"({int(problem['mask'].sum())} of {problem['mask'].size}); bart on this machine\n"
        f"{'method':<12} {'PSNR dB':>8} {'SSIM':>7} {'NMSE':>8} {'HFEN':>7} {'seconds':>8}\n"
    )
    for row in rows:
        s = row.score
        sys.stdout.write(
            f"{row.method:<12} {s.psnr:8.2f} {s.ssim:7.4f} {s.nmse:8.5f} {s.hfen:7.4f} "
            f"{row.seconds:8.2f}\n"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
