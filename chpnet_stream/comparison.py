"""One slice by every method: a picture side by side, and scores where there is a reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from chpnet_stream.errors import MissingCalibrationError
from chpnet_stream.methods import Reconstruction
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.pictures import Panel, save_comparison
from chpnet_stream.scan.slices import Slice
from chpnet_stream.scan.undersampling import is_fully_sampled, undersample
from chpnet_stream.session import Session
from chpnet_stream.similarity import compare

COMPARED = ("zero-filled", "cg-sense", "chpnet")
ACCELERATION = 4
"""Undersampling of a fully sampled slice, where no other was asked for."""


@dataclass(frozen=True)
class MethodScore:
    """One row of the comparison: scores are None where there is no reference.

    Attributes:
        method: The method that was asked for.
        psnr: In dB.
        ssim: Mean structural similarity.
        milliseconds: Time of the reconstruction; of its second run, the first one warms up.
        fallback: Why the image is of another method; None where it isn't.
    """

    method: str
    psnr: float | None
    ssim: float | None
    milliseconds: float
    fallback: str | None


def compare_methods(
    session: Session,
    data: Slice,
    scan: ScanFile,
    picture: Path,
    name: str,
    acceleration: int | None = None,
) -> tuple[list[MethodScore], str | None]:
    """Reconstruct one slice by every method, draw the picture, and score where possible.

    The reference is the image of all lines where the slice is fully sampled (the methods then
    get an undersampled one), else the truth that a simulation stores in its file. Images are
    scaled to it by least squares; without a reference, zero-filled is scaled to CG-SENSE.

    Args:
        session: The session that the slice came through.
        data: The slice.
        scan: The file that it is from.
        picture: PNG file to write.
        name: Heading of the picture.
        acceleration: Undersampling of a fully sampled slice.

    Returns:
        A score for every method, and what the reference is (None: there is none).

    Raises:
        MissingCalibrationError: If coil maps can't be estimated.
        OutputError: If the picture can't be written.
    """
    reconstruct = session.reconstructor
    origin = None
    try:
        if is_fully_sampled(data):
            reference: np.ndarray | None = np.abs(reconstruct(data, "zero-filled").image)
            origin = "SENSE combination of all lines"
            data = undersample(data, acceleration or ACCELERATION)
        else:
            reference = _stored_truth(session, scan, data)
            origin = "truth stored in the file" if reference is not None else None
        methods = [m for m in COMPARED if m != "chpnet" or session.engine is not None]
        results = {}
        for method in methods:
            reconstruct(data, method)
            made = reconstruct(data, method)
            results[method] = replace(made, image=np.abs(made.image))
    except MissingCalibrationError as error:
        raise MissingCalibrationError(f"no comparison without coil maps: {error}") from error
    if reference is not None and reference.shape != results["cg-sense"].image.shape:
        reference, origin = None, None
    goal = results["cg-sense"].image if reference is None else reference
    panels, scores = [], []
    for method, result in results.items():
        panel, row = _judge(method, result, goal, scored=reference is not None)
        panels.append(panel)
        scores.append(row)
    if reference is not None:
        panels.append(Panel("reference", origin or "", reference))
    heading = (
        f"{name}   slice {data.counters['slice']}   {int((data.sampled > 0).sum())} of "
        f"{len(data.sampled)} lines   {data.kspace.shape[0]} coils"
    )
    save_comparison(picture, [p.turned(session.orientation.apply) for p in panels], heading)
    return scores, origin


def _judge(
    method: str, result: Reconstruction, goal: np.ndarray, *, scored: bool
) -> tuple[Panel, MethodScore]:
    """Picture and scores of one method; `goal` is the reference, or only an image to scale to."""
    milliseconds = sum(result.milliseconds.values())
    title = method if result.fallback is None else f"{method} -> {result.method}"
    text = f"{milliseconds:.0f} ms"
    near = compare(result.image, goal)
    if not scored:
        image = near.scale * result.image if method == "zero-filled" else result.image
        score = MethodScore(method, None, None, milliseconds, result.fallback)
        return Panel(title, text, image), score
    image = near.scale * result.image
    text = f"{near.psnr:.1f} dB   SSIM {near.ssim:.3f}   {text}"
    score = MethodScore(method, near.psnr, near.ssim, milliseconds, result.fallback)
    return Panel(title, text, image, image - goal), score


def _stored_truth(session: Session, scan: ScanFile, data: Slice) -> np.ndarray | None:
    """The noise-free image `y x` that `chpnet-stream simulate` stores, shaded as ours are.

    The stored image is the root sum of squares of the coil images as they are, ours of the
    whitened ones: its shading is changed to that of the whitened coil maps.
    """
    contrast, index = data.counters["contrast"], data.counters["slice"]
    truth = scan.stored_array("truth/images" if contrast == 0 else f"truth/images_{contrast}")
    maps = scan.stored_array("truth/coil_maps")
    if truth is None or maps is None or truth.ndim != 3 or index >= min(len(truth), len(maps)):
        return None
    whitening = session.reconstructor.calibration.whitening(data).numpy()
    if maps[index].shape != (whitening.shape[1], *truth[index].shape):
        return None
    white = np.einsum("vc,cyx->vyx", whitening, maps[index])
    shading = np.linalg.norm(white, axis=0) / np.linalg.norm(maps[index], axis=0)
    return np.asarray(shading * truth[index], dtype=np.float32)
