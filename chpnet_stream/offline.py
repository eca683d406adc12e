"""A file of acquisitions in, a file of images out: the work behind `chpnet-stream offline`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np

from chpnet_stream.comparison import MethodScore, compare_methods
from chpnet_stream.errors import ChpnetError, OutputError, OutputExistsError
from chpnet_stream.mrd.expected import Expected, expect
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.image_file import ImageFile
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.pictures import require_matplotlib, save_png
from chpnet_stream.scan.slices import Slice
from chpnet_stream.scan.undersampling import undersample
from chpnet_stream.session import Session, SessionImage
from chpnet_stream.whole_file import check_apart, check_target

VOLUME_BYTES = 256 * 2**20
"""Images held back for the window of the first volume, at most."""

PICTURES = f"image_{5 * '[0-9]'}_slice_{3 * '[0-9]'}.png"
"""What pictures of single images are called."""

logger = logging.getLogger(__name__)


@dataclass
class OfflineJob:
    """What `offline` was asked to do.

    Attributes:
        source: The scan.
        out: The file of images.
        group: HDF5 group of the scan in its file, and of the images in theirs.
        options: Reconstruction.
        dtype: "float32" or "uint16".
        overwrite: Replace existing outputs, and all pictures of single images in `png`.
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
            is left at the output's name then. Images that were made before the scan failed are in
            `<name>_incomplete.h5`, and all of them at their name where only pictures failed; the
            log says so.
    """
    check_outputs(job)
    if job.png or job.comparison:
        require_matplotlib()
    with ScanFile(job.source, job.group) as scan:
        expected = expect(scan)
        session = Session(scan.header, job.options)
        if job.acceleration is not None:
            factor = job.acceleration
            session.prepare = lambda data: undersample(data, factor)
        pick = _Pick(expected.middle) if job.comparison else None
        scores: list[MethodScore] = []
        reference = None
        with _Writer(job, session, scan, expected) as writer:
            for image in session.images(scan.acquisitions()):
                writer.add(image)
                if pick is not None:
                    pick.look_at(image)
                if progress is not None:
                    progress(image.number, max(expected.images, image.number))
            last = writer.finish()
        try:
            if writer.unshown is not None:
                raise writer.unshown
            if pick is not None and pick.data is not None and job.comparison is not None:
                name = session.header.protocol or job.source.stem
                scores, reference = compare_methods(
                    session, pick.data, scan, job.comparison, name, job.acceleration
                )
        except ChpnetError:
            logger.warning("the images are in %s all the same", job.out)
            raise
    lines = np.flatnonzero(last.data.sampled)
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


def check_outputs(job: OfflineJob) -> None:
    """Refuse, before the work begins, to replace what is there.

    Raises:
        OutputError: The images would be written over the scan, or there is no such folder.
        OutputExistsError: Images or pictures are there, and `overwrite` is not set.
    """
    check_apart(job.out, job.source)
    check_target(job.out, overwrite=job.overwrite)
    if job.comparison is not None and job.comparison.parent != job.png:
        check_target(job.comparison, overwrite=job.overwrite)
    if job.png is None or job.overwrite:
        return
    pictures = job.png.glob(PICTURES)
    there = [path for path in (job.comparison, next(pictures, None)) if path and path.exists()]
    if there:
        raise OutputExistsError(
            f"{there[0]} exists already; choose another folder for the pictures or allow it with "
            "--overwrite"
        )


class _Pick:
    """Keeps the k-space of one slice for the comparison, and of the first until that comes."""

    def __init__(self, position: tuple[int, int]) -> None:
        self.position = position
        self.data: Slice | None = None
        self.found = False

    def look_at(self, image: SessionImage) -> None:
        counters = image.original.counters
        here = (counters["slice"], counters.get("partition", 0)) == self.position
        if self.data is None or (here and not self.found):
            self.data, self.found = image.original, here


class _Writer:
    """Writes images in order; the first volume is held back until its window is known.

    Attributes:
        unshown: Why there are no more pictures; they are worth less than the images.
    """

    def __init__(
        self, job: OfflineJob, session: Session, scan: ScanFile, expected: Expected
    ) -> None:
        self.job, self.session, self.scan, self.expected = job, session, scan, expected
        dtype = None if job.dtype == "float32" else job.dtype
        self.file = ImageFile(job.out, job.group, scan.header.xml, dtype, job.overwrite)
        self.held: list[SessionImage] | None = []
        self.positions: set[tuple[int, int]] = set()
        self.newest: SessionImage | None = None
        self.window = (0.0, 1.0)
        self.old_pictures: set[Path] = set()
        self.unshown: OutputError | None = None

    def __enter__(self) -> _Writer:
        if self.job.png is not None:
            try:
                self.job.png.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"can't make the folder {self.job.png}: {error.strerror}"
                ) from error
            self.old_pictures = set(self.job.png.glob(PICTURES))
        self.file.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failed = isinstance(error, Exception) and not isinstance(error, OutputError)
        if not (failed and self._write_held()):
            self.file.__exit__(kind, error, trace)
            return
        kept = self.file.save_incomplete()
        count = self.file.count
        self.file.__exit__(None, None, None)
        logger.warning(
            "the images that were made before the scan failed (%d) are in %s", count, kept
        )

    def add(self, image: SessionImage) -> None:
        """Take the next image."""
        if self.held is None:
            self._write_newest()
            self.newest = image
            return
        self.held.append(image)
        counters = image.data.counters
        self.positions.add((counters["slice"], counters.get("partition", 0)))
        volume = len(self.positions) >= self.expected.positions
        if volume or image.result.image.nbytes * len(self.held) > VOLUME_BYTES:
            self._release()

    def finish(self) -> SessionImage:
        """Write what is held back, the last image marked as such; returns that one."""
        self._release()
        last = self.newest
        if last is None:
            raise OutputError("expected at least one image, found none")
        self._write_newest(last=True)
        self.file.keep_waveforms(self.scan)
        self._take_old_pictures_away()
        return last

    def _take_old_pictures_away(self) -> None:
        """Those of another scan, which `overwrite` allows to replace: nobody shall mix them up."""
        for path in self.old_pictures if self.unshown is None else ():
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("%s is of another scan, and stays: %s", path, error.strerror)

    def _write_held(self) -> bool:
        """Write what waits to be written, after an error; whether the file then has images."""
        try:
            self._release()
            self._write_newest()
        except Exception:  # noqa: BLE001 - the error before it is what is told
            return False
        return self.file.count > 0

    def _release(self) -> None:
        if self.held is None:
            return
        held, self.held = self.held, None
        top = self.session.set_window([i.result.image for i in held])
        self.window = (0.0, self.job.options.scale * top or 1.0)
        for image in held:
            self._write_newest()
            self.newest = image

    def _write_newest(self, *, last: bool = False) -> None:
        image, self.newest = self.newest, None
        if image is None:
            return
        made = self.session.to_ismrmrd(image, last=last)
        self.file.append(made)
        if self.job.png is None or self.unshown is not None:
            return
        name = f"image_{image.number:05d}_slice_{image.data.counters['slice']:03d}.png"
        path = self.job.png / name
        self.old_pictures.discard(path)
        try:
            save_png(path, np.abs(made.data[0, 0]), self.window)
        except OutputError as error:
            self.unshown = error
