"""A file of acquisitions in, a file of images out: the work behind `chpnet-stream offline`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chpnet_stream.errors import ConfigurationError, OutputError
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.image_file import ImageFile
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.pictures import Panel, require_matplotlib, save_comparison, save_png
from chpnet_stream.scan.slices import Slice
from chpnet_stream.scan.undersampling import is_fully_sampled, undersample
from chpnet_stream.session import Session, SessionImage
from chpnet_stream.similarity import compare

POSITION_FIELDS = ("slice", "contrast", "phase", "repetition", "set")
VOLUME_BYTES = 256 * 2**20
COMPARE_ACCELERATION = 4
COMPARED = ("zero-filled", "cg-sense", "chpnet")


@dataclass
class OfflineJob:
    """What `offline` was asked to do.

    Attributes:
        source: The scan.
        out: The file of images.
        group: HDF5 group of the scan in its file, and of the images in theirs.
        options: Reconstruction.
        dtype: "float32" or "uint16".
        overwrite: Replace an existing output.
        png: Folder for a picture of every image.
        comparison: Picture of the methods side by side.
        acceleration: Undersample fully sampled slices by this factor before anything else.
    """

    source: Path
    out: Path
    group: str = "dataset"
    options: ReconstructionOptions = field(default_factory=ReconstructionOptions)
    dtype: str = "float32"
    overwrite: bool = False
    png: Path | None = None
    comparison: Path | None = None
    acceleration: int | None = None


@dataclass(frozen=True)
class MethodScore:
    """One row of the comparison: scores are None where there is no reference."""

    method: str
    psnr: float | None
    ssim: float | None
    milliseconds: float


@dataclass
class OfflineReport:
    """What was done: the closing table."""

    session: Session
    images: int
    matrix: tuple[int, int]
    coils: int
    virtual_coils: int
    acceleration: float
    scores: list[MethodScore]
    reference: str | None


def run_offline(
    job: OfflineJob, progress: Callable[[int, int], None] | None = None
) -> OfflineReport:
    """Reconstruct a file.

    Args:
        job: What to do.
        progress: Called with the images made and the images expected.

    Raises:
        ChpnetError: With one line that says what is wrong with the input or the output; nothing
            is left at the output's name then.
    """
    if job.out.exists() and job.source.exists() and job.out.samefile(job.source):
        raise OutputError(f"{job.out} is the scan itself; expected another name for the images")
    if job.png or job.comparison:
        require_matplotlib()
    with ScanFile(job.source, job.group) as scan:
        expected = count_images(scan)
        session = Session(scan.header, job.options)
        if job.acceleration is not None:
            factor = job.acceleration
            session.prepare = lambda data: undersample(data, factor)
        pick = _Pick(expected // 2) if job.comparison else None
        writer = _Writer(job, session, scan, expected)
        with writer:
            for image in session.images(scan.acquisitions()):
                writer.add(image)
                if pick is not None:
                    pick.look_at(image)
                if progress is not None:
                    progress(image.number, max(expected, image.number))
            writer.finish()
        last = writer.last
        scores: list[MethodScore] = []
        reference = None
        if pick is not None and pick.data is not None and job.comparison is not None:
            scores, reference = _compare(session, pick.data, scan, job)
    if last is None:
        raise OutputError("no image was made")
    sampled = last.data.sampled > 0
    lines = np.flatnonzero(sampled)
    return OfflineReport(
        session,
        session.metrics.images,
        (last.result.image.shape[0], last.result.image.shape[1]),
        last.data.kspace.shape[0],
        last.result.virtual_coils,
        float((lines[-1] - lines[0] + 1) / lines.size),
        scores,
        reference,
    )


def count_images(scan: ScanFile) -> int:
    """Images to expect: different positions and counters among the image lines."""
    seen: set[tuple[int, ...]] = set()
    for heads in scan.heads():
        image = flags.is_image(heads["flags"])
        index = heads["idx"][image]
        seen.update(zip(*(index[name].tolist() for name in POSITION_FIELDS), strict=True))
    encoding = scan.header.encodings[0]
    partitions = encoding.encoded.matrix[2] if encoding.is_3d else 1
    return len(seen) * partitions


class _Pick:
    """Keeps the k-space of one slice for the comparison: the middle one of the scan."""

    def __init__(self, number: int) -> None:
        self.number = number + 1
        self.data: Slice | None = None

    def look_at(self, image: SessionImage) -> None:
        if self.data is None or image.number == self.number:
            self.data = image.original


class _Writer:
    """Writes images in order; the first volume is held back until its window is known."""

    def __init__(self, job: OfflineJob, session: Session, scan: ScanFile, expected: int) -> None:
        self.job, self.session = job, session
        dtype = None if job.dtype == "float32" else job.dtype
        self.file = ImageFile(job.out, job.group, scan.header.xml, dtype, job.overwrite)
        self.held: list[SessionImage] | None = []
        self.expected = expected
        self.last: SessionImage | None = None
        self.newest: SessionImage | None = None
        self.window = (0.0, 1.0)
        if job.png is not None:
            try:
                job.png.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"can't make the folder {job.png}: {error.strerror}") from error

    def __enter__(self) -> _Writer:
        self.file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.file.__exit__(*error)

    def add(self, image: SessionImage) -> None:
        """Take the next image."""
        self.last = image
        if self.held is None:
            self._write_newest()
            self.newest = image
            return
        self.held.append(image)
        positions = {
            (i.data.counters["slice"], i.data.counters.get("partition")) for i in self.held
        }
        repeated = len(self.held) > len(positions)
        if repeated or image.result.image.nbytes * len(self.held) > VOLUME_BYTES:
            self._release()

    def finish(self) -> None:
        """Write what is held back, the last image marked as such."""
        self._release()
        self._write_newest(last=True)

    def _release(self) -> None:
        if self.held is None:
            return
        held, self.held = self.held, None
        self.session.set_window([i.result.image for i in held])
        tops = [float(np.percentile(i.result.image, 99.8)) for i in held]
        self.window = (0.0, max(tops, default=1.0) or 1.0)
        for image in held:
            self._write_newest()
            self.newest = image

    def _write_newest(self, *, last: bool = False) -> None:
        image, self.newest = self.newest, None
        if image is None:
            return
        self.file.append(self.session.to_ismrmrd(image, last=last))
        if self.job.png is not None:
            name = f"image_{image.number:05d}_slice_{image.data.counters['slice']:03d}.png"
            save_png(self.job.png / name, image.result.image, self.window)


def _compare(
    session: Session, data: Slice, scan: ScanFile, job: OfflineJob
) -> tuple[list[MethodScore], str | None]:
    """Reconstruct one slice by every method, draw the picture, and score where possible."""
    reconstruct = session.reconstructor
    reference, origin = None, None
    full = is_fully_sampled(data)
    factor = job.acceleration or COMPARE_ACCELERATION
    if full:
        reference = reconstruct(data, "zero-filled").image
        origin = "SENSE combination of all lines"
        data = undersample(data, factor)
    else:
        reference = _stored_truth(scan, data)
        origin = "truth stored in the file" if reference is not None else None
    methods = [m for m in COMPARED if m != "chpnet" or session.engine is not None]
    panels, scores = [], []
    for method in methods:
        reconstruct(data, method)  # once to warm up: times of the second run are shown
        result = reconstruct(data, method)
        milliseconds = sum(result.milliseconds.values())
        image, error, text = result.image, None, f"{milliseconds:.0f} ms"
        psnr = ssim = None
        if reference is not None and reference.shape == image.shape:
            near = compare(image, reference)
            psnr, ssim = near.psnr, near.ssim
            image = near.scale * image
            error = image - reference
            text = f"{psnr:.1f} dB   SSIM {ssim:.3f}   {text}"
        elif method == "zero-filled":
            image = image * _lines_ratio(data)
        title = method if result.fallback is None else f"{method} -> {result.method}"
        panels.append(Panel(title, text, image, error))
        scores.append(MethodScore(method, psnr, ssim, milliseconds))
    if reference is not None:
        panels.append(Panel("reference", origin or "", reference))
    measured = int((data.sampled > 0).sum())
    heading = (
        f"{session.header.protocol or job.source.stem}   slice {data.counters['slice']}   "
        f"{measured} of {len(data.sampled)} lines   {data.kspace.shape[0]} coils"
    )
    if job.comparison is None:
        raise ConfigurationError("no file for the comparison")
    save_comparison(job.comparison, panels, heading)
    return scores, origin


def _lines_ratio(data: Slice) -> float:
    """All lines over measured lines: brings zero-filled images near the brightness of others."""
    return len(data.sampled) / max(1, int((data.sampled > 0).sum()))


def _stored_truth(scan: ScanFile, data: Slice) -> np.ndarray | None:
    """The noise-free image that `chpnet-stream simulate` stores with its scans."""
    truth = scan.stored_array("truth/images")
    index = data.counters["slice"]
    if truth is None or truth.ndim != 3 or index >= len(truth) or data.counters["contrast"] > 0:
        return None
    return np.asarray(truth[index], dtype=np.float32)
