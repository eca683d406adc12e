"""Scores of the product's own reconstruction, and of BART's, on fully sampled raw data.

Every slice of a fully sampled scan is undersampled, reconstructed as `chpnet-stream offline` would,
and compared with the SENSE combination of all its lines by the same coil maps, as `score_raw` says.
The maps come from the calibration lines of the undersampled slice. BART's methods are run twice: on
the same whitened, compressed data and maps (only the solver differs), and from the raw data on with
BART's own ESPIRiT maps and the reference that belongs to these.
"""

from __future__ import annotations

import logging
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from chpnet_stream.engines.engine import Engine
from chpnet_stream.errors import InputError
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.images import crop_to_recon
from chpnet_stream.reconstruction import SliceReconstructor
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.slices import Slice, SliceAssembler
from chpnet_stream.scan.undersampling import is_fully_sampled, undersample
from chpnet_training.bart import bart_espirit, bart_pics
from chpnet_training.baselines import PICS_OPTIONS
from chpnet_training.scoring import (
    Score,
    coil_norm,
    least_squares_scale,
    object_mask,
    raw_reference,
    score_raw,
    score_volume,
)

OWN_METHODS = ("zero-filled", "cg-sense", "chpnet")
OWN_MAPS = "chpnet-stream"
BART_MAPS = "bart"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """One method on one slice.

    Attributes:
        slice: Number of the slice.
        coils: Coils of the raw data.
        lines: Lines that were kept.
        method: `zero-filled`, `cg-sense`, `chpnet`, or `bart ...`.
        maps: Whose coil maps and reference: "chpnet-stream" or "bart".
        score: See `chpnet_training.scoring.score_raw`.
        calibration_ms: Whitening, coil compression and coil maps; None where they were there.
        milliseconds: Everything else; for BART the run of its program, files included.
        fallback: Why the product sent another image than it was asked for, or None.
        image: Magnitude `y x`, in the units of the reference by least squares.
        reference: `y x`.
        scale: What `image` was multiplied with.
    """

    slice: int
    coils: int
    lines: int
    method: str
    maps: str
    score: Score
    calibration_ms: float | None
    milliseconds: float
    fallback: str | None
    image: np.ndarray
    reference: np.ndarray
    scale: float


def find_scan(data: Path) -> Path:
    """The fully sampled scan: `data` itself, or the real brain in a folder of shared data.

    Raises:
        InputError: If the folder has no such scan.
    """
    if not data.is_dir():
        return data
    brain = data / "espirit-full-brain-8ch" / "brain_full.h5"
    if not brain.is_file():
        raise InputError(
            f"{data}: found no espirit-full-brain-8ch/brain_full.h5; expected that folder, or the "
            "path of a fully sampled ISMRMRD file"
        )
    return brain


def evaluate_scan(
    path: Path,
    engine: Engine,
    *,
    group: str = "dataset",
    acceleration: int = 4,
    calibration_lines: int = 24,
    repeats: int = 5,
    bart: bool = True,
    others: Mapping[str, Engine] | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Evaluation]:
    """Score all methods on every slice of a fully sampled scan.

    Args:
        path: ISMRMRD file.
        engine: The loaded model.
        group: HDF5 group of the scan.
        acceleration: Every how manieth line is kept.
        calibration_lines: Lines around the centre that are kept as well.
        repeats: Runs whose median time is taken, after one that is not counted.
        bart: Run BART's methods too, where the program is installed.
        others: More networks to score in the same way, by label.
        progress: Called with the name of each method before it runs.

    Raises:
        ChpnetError: If the scan can't be read, is not fully sampled, or a method fails.
    """
    tell = progress or (lambda name: None)
    if bart and shutil.which("bart") is None:
        logger.warning(
            "bart is not installed: its rows are left out (Debian: apt-get install bart)"
        )
        bart = False
    noise, slices = read_scan(path, group)
    found: list[Evaluation] = []
    for data in slices:
        short = undersample(data, acceleration, calibration_lines)
        reconstructor = SliceReconstructor(noise, engine)
        sensitivities = reconstructor.calibration.sensitivities(short)
        with_same_maps = replace(
            data,
            calibration=short.calibration,
            calibrated=short.calibrated,
            calibration_version=short.calibration_version,
        )
        reference = reconstructor(with_same_maps, "zero-filled").image.astype(np.float64)
        inside = object_mask(reference)
        for method in OWN_METHODS:
            tell(method)
            found.append(_own(method, noise, engine, short, reference, inside, repeats))
        for label, other in (others or {}).items():
            tell(label)
            row = _own("chpnet", noise, other, short, reference, inside, repeats)
            found.append(replace(row, method=label))
        if bart:
            matrix, maps = (part.cpu() for part in (sensitivities.matrix, sensitivities.maps))
            kspace = torch.einsum("vc,cyx->vyx", matrix, torch.from_numpy(short.kspace)).numpy()
            found += _by_bart(short, kspace, maps.numpy(), OWN_MAPS, reference, tell)
            tell("bart ecalib")
            maps_of_bart = bart_espirit(short.kspace, calibration_lines=calibration_lines)
            whole = _cropped(raw_reference(data.kspace, maps_of_bart), data)
            found += _by_bart(short, short.kspace, maps_of_bart, BART_MAPS, whole, tell)
    return found


def average(rows: list[Evaluation]) -> list[dict[str, object]]:
    """The table: for each method, in the order of the rows, means over the slices.

    `volume_...` are the scores of all slices together (`scoring.score_volume`).
    """
    keys = list(dict.fromkeys((row.method, row.maps) for row in rows))
    table: list[dict[str, object]] = []
    for method, maps in keys:
        own = [row for row in rows if (row.method, row.maps) == (method, maps)]
        volume = score_volume(
            np.stack([row.image / row.scale if row.scale else row.image for row in own]),
            np.stack([row.reference for row in own]),
        )
        calibration = [row.calibration_ms for row in own if row.calibration_ms is not None]
        table.append(
            {
                "method": method,
                "maps": maps,
                "slices": len(own),
                "psnr_db": statistics.fmean(row.score.psnr for row in own),
                "ssim": statistics.fmean(row.score.ssim for row in own),
                "nmse": statistics.fmean(row.score.nmse for row in own),
                "hfen": statistics.fmean(row.score.hfen for row in own),
                "volume_psnr_db": volume.psnr,
                "volume_ssim": volume.ssim,
                "volume_nmse": volume.nmse,
                "volume_hfen": volume.hfen,
                "calibration_ms": statistics.fmean(calibration) if calibration else None,
                "image_ms": statistics.fmean(row.milliseconds for row in own),
                "fallbacks": sum(row.fallback is not None for row in own),
            }
        )
    return table


def read_scan(path: Path, group: str) -> tuple[NoiseScan, list[Slice]]:
    """Noise and slices of a fully sampled scan.

    Raises:
        InputError: If it can't be read, or lines are missing.
    """
    with ScanFile(path, group) as scan:
        noise = NoiseScan(scan.header.noise_bandwidth)
        assembler = SliceAssembler(scan.header)
        slices: list[Slice] = []
        for acquisition in scan.acquisitions():
            if int(acquisition.flags) & flags.NOISE:
                noise.add(acquisition)
            slices += assembler.feed(acquisition)
        slices += assembler.flush()
    if not slices:
        raise InputError(f"{path}: found no image data, expected a fully sampled scan")
    for data in slices:
        if not is_fully_sampled(data):
            raise InputError(
                f"{path}: slice {data.counters['slice']} has {int((data.sampled > 0).sum())} of "
                f"{len(data.sampled)} lines, expected a fully sampled scan to score against"
            )
    return noise, slices


def _own(
    method: str,
    noise: NoiseScan,
    engine: Engine,
    data: Slice,
    reference: np.ndarray,
    inside: np.ndarray,
    repeats: int,
) -> Evaluation:
    """The product's pipeline; a new one for each run, so that each makes its coil maps."""
    calibration, rest = [], []
    for _ in range(repeats + 1):
        result = SliceReconstructor(noise, engine)(data, method)
        laps = result.milliseconds
        calibration.append(laps["calibration"])
        rest.append(sum(laps.values()) - laps["calibration"])
    scale = least_squares_scale(result.image, reference, inside)
    return Evaluation(
        *_facts(data),
        method,
        OWN_MAPS,
        score_raw(result.image, reference, inside),
        statistics.median(calibration[1:]),
        statistics.median(rest[1:]),
        result.fallback,
        scale * result.image,
        reference,
        scale,
    )


def _by_bart(
    data: Slice,
    kspace: np.ndarray,
    maps: np.ndarray,
    origin: str,
    reference: np.ndarray,
    tell: Callable[[str], None],
) -> Iterator[Evaluation]:
    norm, inside = coil_norm(maps), object_mask(reference)
    for method, options in PICS_OPTIONS.items():
        tell(f"bart {method}")
        solved, seconds = bart_pics(kspace, maps, options)
        image = _cropped(np.abs(solved) * norm, data)
        scale = least_squares_scale(image, reference, inside)
        yield Evaluation(
            *_facts(data),
            f"bart {method}",
            origin,
            score_raw(image, reference, inside),
            None,
            1e3 * seconds,
            None,
            scale * image,
            reference,
            scale,
        )


def _facts(data: Slice) -> tuple[int, int, int]:
    """Number of the slice, coils, lines measured."""
    return data.counters["slice"], data.kspace.shape[0], int((data.sampled > 0).sum())


def _cropped(image: np.ndarray, data: Slice) -> np.ndarray:
    return np.asarray(crop_to_recon(image, data.encoding), dtype=np.float64)
