"""The BART toolbox as a subprocess: arrays out and in by .cfl files, ESPIRiT maps, ``pics``.

BART (Uecker et al., https://mrirecon.github.io/bart) is the program ``bart``, Debian's package of
that name. Its dimensions: 0 readout, 1 and 2 phase encoding, 3 coils, 4 sets of maps.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chpnet_stream.errors import ConfigurationError, InputError

__all__ = ["bart_espirit", "bart_pics", "from_bart", "read_cfl", "run_bart", "to_bart", "write_cfl"]


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
        raise InputError(
            f"{header}: found {numbers!r}; expected dimensions as integers."
        ) from error
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
