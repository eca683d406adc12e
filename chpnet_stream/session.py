"""One scan: acquisitions in, images out. Every door leads here."""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from chpnet_stream.calibrate import Sensitivities
from chpnet_stream.deadline import TooLateError
from chpnet_stream.engines.choice import default_device, make_engine
from chpnet_stream.engines.engine import Engine, Problem, first_line
from chpnet_stream.errors import (
    EmptyScanError,
    ModelError,
    ReconstructionError,
)
from chpnet_stream.idle_threads import work_alone
from chpnet_stream.loading import load_or_explain
from chpnet_stream.methods import LATE, Reconstruction
from chpnet_stream.metrics import SessionMetrics
from chpnet_stream.mrd import flags
from chpnet_stream.mrd.header import OTHER_MATRIX, Encoding, ScanHeader
from chpnet_stream.mrd.images import ImageCounters, ImageOrientation, image_from_slice
from chpnet_stream.mrd.pixels import PixelScale
from chpnet_stream.network.normal import ColumnNormal, NarrowNormal, to_channels, to_complex
from chpnet_stream.network.weights import find_model
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.quality import Noise, check
from chpnet_stream.reconstruction import SliceReconstructor
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.slices import Slice, SliceAssembler
from chpnet_stream.slice_pace import SlicePace

WINDOW_PERCENTILE = 99.8

WIDEN = 2.0
"""An image so much brighter than the white of a window that the first image set widens it. A stack
may begin in air: the middle of the head would be one white area.
"""

WARM_COILS = 8
"""Virtual coils of a dry run where the header tells of none."""

RUNS_ON_A_GPU = 3
"""The first prepares for a size, the second is recorded, the third is as all that follow."""

WARM_SECONDS = 120.0
"""A GPU's dry run is not waited for any longer: the first slice finds out what is the matter."""

_WARM: weakref.WeakKeyDictionary[Engine, set[tuple[int, int, int]]] = weakref.WeakKeyDictionary()
"""Matrices and coils that engines have run already."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SessionImage:
    """An image of the scan, with the slice that it is of (`original`: before `prepare`)."""

    number: int
    data: Slice
    original: Slice
    result: Reconstruction
    latency_ms: float


class Session:
    """Reconstructs one scan.

    The engine is loaded and run once when the session is made, before the first line.

    Attributes:
        metrics: Counters and latencies.
        prepare: Applied to every slice before it is reconstructed; nothing by default.
        turn: Held while a slice is worked on; by default nobody has to wait.

    Args:
        header: The scan's header.
        options: What to do.
        engine: A loaded engine of the same model, if there is one already.
        missing: Why there is no engine though one was asked for; then every image is a
            conventional one that says so.
        live: Lines come as they are measured. Slices are reconstructed on a thread of their own,
            which is woken before they are complete, and loops of the thread that makes the session
            run on it alone from now on.

    Raises:
        UnsupportedScanError: If the header says that the scan can't be reconstructed here.
        ModelError, EngineError: If the network can't be loaded.
    """

    def __init__(
        self,
        header: ScanHeader,
        options: ReconstructionOptions | None = None,
        engine: Engine | None = None,
        missing: str = "",
        live: bool = False,
    ) -> None:
        header.check()
        if live:
            work_alone()
        self.header = header
        self.options = options or ReconstructionOptions()
        self.metrics = SessionMetrics()
        self.prepare: Callable[[Slice], Slice] | None = None
        self.turn: Callable[[], AbstractContextManager[object]] = nullcontext
        self.assembler = SliceAssembler(header)
        self.noise = NoiseScan(header.noise_bandwidth)
        if engine is None and self.options.method == "chpnet" and not missing:
            engine, missing = self._load()
        if engine is not None and engine.card.student.task != "kspace":
            raise ModelError(
                f"model {engine.card.name} is for the task '{engine.card.student.task}', expected "
                "one for 'kspace'; choose another one (see `chpnet-stream models`)"
            )
        self.engine = engine
        self.reconstructor = SliceReconstructor(
            self.noise,
            engine,
            method="cg-sense" if missing else self.options.method,
            device=engine.device if engine else default_device(),
            virtual_coils=self.options.virtual_coils,
            complex_images=self.options.image_type == "complex",
            interpolated=self.options.image_matrix == "recon",
        )
        self.reconstructor.apart = live
        awake = live and self.options.wake_ms > 0 and self.reconstructor.device.type == "cpu"
        self._pace = SlicePace() if awake else None
        self.orientation = ImageOrientation(self.options.flip_rows, self.options.flip_columns)
        self._window: tuple[float, float] | None = None
        self._of_volume = False
        self._scale: PixelScale | None = None
        self._cut = False
        self._number = 0
        self._not_asked = missing
        encoding = next(e for e in header.encodings if not e.problems())
        _tell_of_matrix(encoding, self.reconstructor.interpolated)
        if engine is not None:
            self._warm_up(engine, encoding)

    def _warm_up(self, engine: Engine, encoding: Encoding) -> None:
        """A dry run of what the header announces."""
        channels = self.header.receiver_channels or WARM_COILS
        coils = max(1, min(channels, self.options.virtual_coils))
        size = encoding.encoded.matrix[1], encoding.cropped(0)
        try:
            self.reconstructor.on_its_thread(
                lambda: warm_up(engine, *size, coils, encoding.acceleration[0]),
                None if engine.device.type == "cpu" else WARM_SECONDS,
            )
        except TooLateError:
            logger.warning("the network's dry run gave no answer within %g s", WARM_SECONDS)

    def _load(self) -> tuple[Engine | None, str]:
        """The engine of the options, or why it can't be loaded.

        Raises:
            ModelError: There is no such model; with on_error=error also what else goes wrong.
        """
        options = self.options
        model = find_model(options.model)
        return load_or_explain(
            lambda: make_engine(options.engine, model, precision=options.precision),
            options.on_error,
        )

    def feed(self, item: Any, received_at: float | None = None) -> list[SessionImage]:
        """Take one acquisition; returns the images that it completes.

        Args:
            item: An `ismrmrd.Acquisition`.
            received_at: `time.monotonic()` when it arrived; now by default.
        """
        return list(self.images_of(item, received_at))

    def images_of(self, item: Any, received_at: float | None = None) -> Iterator[SessionImage]:
        """The same one by one: an image can be sent before the next is begun.

        A line may complete many: all partitions of a slab, or all slices that are open at the end.
        Take them all before the next acquisition.
        """
        if int(item.flags) & flags.NOISE:
            self.noise.add(item)
        for data in self.assembler.feed(item, received_at):
            yield self._reconstruct(data)
        growing = self.assembler.growing
        if growing is not None and self.prepare is None and self.options.method != "rss":
            self.reconstructor.grow(growing)
            self._wake(growing.serial, received_at)

    def _wake(self, serial: int, received_at: float | None) -> None:
        """Wake the cores in time for the slice that will be complete next, now that a line came."""
        if self._pace is None:
            return
        now = time.monotonic()
        expected = self._pace.line(serial, now if received_at is None else received_at)
        early = 1e-3 * self.options.wake_ms
        if expected is not None and now < expected + early:
            self.reconstructor.runner.wake(expected - early, expected + early)

    def end_block(self) -> Iterator[SessionImage]:
        """Images of the slices that are open, one by one.

        Whoever gathered their lines says that they are whole.
        """
        for data in self.assembler.end_block():
            yield self._reconstruct(data)

    def finish(self) -> Iterator[SessionImage]:
        """Images of everything still open, incomplete ones marked; call it at the end.

        Raises:
            EmptyScanError: If the whole scan had no image data.
        """
        for data in self.assembler.flush():
            yield self._reconstruct(data)
        self.close()
        if self._number == 0:
            counts = ", ".join(f"{n} {what}" for what, n in self.assembler.counts.items())
            raise EmptyScanError(
                f"found no image data in the scan ({counts or 'no acquisitions'}), expected lines "
                "without the flags of noise, calibration or navigation; check the conversion"
            )

    def close(self) -> None:
        """Let go of the session's threads; `finish` does it, too."""
        self.reconstructor.close()

    def images(self, acquisitions: Iterable[Any]) -> Iterator[SessionImage]:
        """All images of a sequence of acquisitions."""
        for acquisition in acquisitions:
            yield from self.images_of(acquisition)
        yield from self.finish()

    def _reconstruct(self, data: Slice) -> SessionImage:
        original = data
        if self.prepare is not None:
            data = self.prepare(data)
        with self.turn():
            result = self.reconstructor(data, **self._manner(data))
        if self._not_asked:
            reasons = [self._not_asked, *filter(None, [result.fallback])]
            result = replace(result, wanted="chpnet", fallback="; ".join(reasons))
        else:
            self._judge(data, result)
        if self._pace is not None:
            self._pace.end(data.serial, data.complete)
        metrics = self.metrics
        self._number += 1
        metrics.images += 1
        metrics.incomplete += not data.complete
        metrics.marked += bool(result.mark)
        metrics.methods[result.method] += 1
        if result.fallback is not None:
            metrics.fallbacks[result.fallback.partition(":")[0]] += 1
        metrics.stages_ms.update(result.milliseconds)
        latency = 1e3 * (time.monotonic() - data.received_at)
        metrics.latencies_ms.append(latency)
        return SessionImage(self._number, data, original, result, latency)

    def _manner(self, data: Slice) -> dict[str, Any]:
        """What the options ask of the reconstruction of a slice."""
        options = self.options
        if self.engine is None or options.method != "chpnet":
            return {}
        if self._not_asked:
            return {"method": "cg-sense"}
        return {"deadline": options.deadline(data.received_at), "baseline": options.send_baseline}

    def _judge(self, data: Slice, result: Reconstruction) -> None:
        """Act on a network that failed as the option on_error says.

        Raises:
            ReconstructionError: If that is to end the scan.
        """
        if result.wanted != "chpnet" or result.fallback is None:
            return
        if result.fallback.startswith(LATE):
            return
        if self.options.on_error == "error":
            raise ReconstructionError(
                f"slice {data.counters['slice']}: the network gave no fit image "
                f"({result.fallback}), and on_error=error asks for an end; on_error=fallback sends "
                "the conventional image instead"
            )
        if self.options.on_error == "baseline-only":
            self._not_asked = f"network not asked any more: {result.fallback}"

    def set_window(self, images: Iterable[np.ndarray]) -> float:
        """Choose the display window of the series from the magnitudes of a whole volume.

        Args:
            images: As they were reconstructed, before the option `scale`.

        Returns:
            The value of these that is shown as white; black is zero.
        """
        self._of_volume = True
        return self._choose_window(images)

    def _choose_window(self, images: Iterable[np.ndarray]) -> float:
        tops = (float(np.percentile(np.abs(i), WINDOW_PERCENTILE)) for i in images)
        top = max(tops, default=0.0)
        white = self.options.scale * top
        self._window = (white / 2, white) if top > 0 else None
        return top

    def _widen_window(self, image: np.ndarray) -> None:
        """Set the window by an image where there is none, or the first ones were far darker."""
        if self._window is None:
            self._choose_window([image])
        elif not self._of_volume:
            most = WIDEN * self._window[1] / self.options.scale
            beyond = np.count_nonzero(np.abs(image) > most)
            if beyond > (1 - WINDOW_PERCENTILE / 100) * image.size:
                self._choose_window([image])

    def messages(self, image: SessionImage) -> list[Any]:
        """What is sent for an image: itself, and the conventional one where that is asked for.

        The last image of a scan is told as such where its lines were; it is the last of both.
        """
        last = bool(image.data.edges & flags.LAST_IN_MEASUREMENT)
        both = self.options.send_baseline and self.options.method == "chpnet"
        made = [self.to_ismrmrd(image, last=last and not both)]
        baseline = image.result.baseline
        if baseline is None and self.options.send_baseline:
            # The network isn't asked any more: both series go on.
            baseline = replace(image.result, fallback=None)
        if baseline is not None and self.options.method == "chpnet":
            beside = replace(image, result=baseline)
            made.append(self.to_ismrmrd(beside, last=last, series=self.options.baseline_series))
        return made

    def to_ismrmrd(
        self, image: SessionImage, *, last: bool = False, series: int | None = None
    ) -> Any:
        """The image as an `ismrmrd.Image` with its header and meta.

        Without `set_window` the first image of the series sets the window of all (unless a later
        one is far brighter, `WIDEN`), and the scale of uint16 pixels.

        Args:
            image: The image.
            last: Whether it is the last one of the scan.
            series: Another image_series_index than the options'.
        """
        self._widen_window(image.result.image)
        result, data = image.result, image.data
        pixels = self.options.scale * result.image
        comments = ["for research use"]
        if result.fallback is not None:
            how = f"instead of {result.wanted}" if result.method != result.wanted else "by the CPU"
            comments.append(f"{result.method} {how}: {result.fallback}")
        if result.mark:
            comments.append(f"check the data: {result.mark}")
        if not data.complete:
            comments.append(f"incomplete slice, {data.missing_lines} lines missing")
        scale = self._pixel_scale(pixels)
        if scale is not None and scale.cuts_off(pixels):
            comments.append(f"pixels brighter than {scale.top:.4g} are cut off")
            self._tell_of_cut(image.number, scale)
        made = image_from_slice(
            pixels,
            data.head,
            self.header,
            ImageCounters(
                index=image.number,
                series=series or self.options.series,
                partition=data.counters.get("partition", 0),
                last_in_measurement=last,
            ),
            encoding=data.encoding,
            image_type=self.options.image_type,
            slice_counters=data.counters,
            edges=data.edges,
            time_stamps=(data.first_time_stamp, data.last_time_stamp),
            window=self._window,
            orientation=self.orientation,
            description=result.method if result.method == "chpnet" else f"chpnet {result.method}",
            history=("chpnet-stream", *result.notes),
            comments=tuple(comments),
            meta=self._meta(image),
        )
        return made if scale is None else scale.apply(made)

    def _pixel_scale(self, pixels: np.ndarray) -> PixelScale | None:
        """The scale of uint16 pixels, which the first image sets; None for float32."""
        if self.options.dtype == "uint16" and self._scale is None:
            self._scale = PixelScale.of(pixels, self.options.scale)
        return self._scale

    def _tell_of_cut(self, number: int, scale: PixelScale) -> None:
        if not self._cut:
            logger.warning(
                "image %d: pixels brighter than %.4g are cut off, here and wherever it happens "
                "again: the first image set the scale of the uint16 pixels, and was far darker; "
                "dtype=float32 has no such limit",
                number,
                scale.top,
            )
        self._cut = True

    def _meta(self, image: SessionImage) -> dict[str, Any]:
        """What we say of an image beside the standard's meta."""
        result, data = image.result, image.data
        card = self.engine.card if self.engine is not None else None
        by_network = result.method == "chpnet" and card is not None
        residual = result.residual
        return {
            "ChpnetMethod": result.method,
            "ChpnetModel": card.name if card and by_network else None,
            "ChpnetModelChecksum": card.checksum if card and by_network else None,
            "ChpnetEngine": result.engine if by_network else None,
            "ChpnetDataConsistencyResidual": None if residual is None else f"{residual:.5f}",
            "ChpnetFallback": result.fallback,
            "ChpnetDataMark": result.mark or None,
            "ChpnetLatencyMs": f"{image.latency_ms:.2f}",
            "ChpnetNoiseLevel": self.reconstructor.calibration.noise_source,
            "ChpnetScale": None if self.options.scale == 1 else self.options.scale,
            "ChpnetMissingLines": None if data.complete else data.missing_lines,
        }


def _tell_of_matrix(encoding: Encoding, interpolated: bool) -> None:
    """Warn where whoever goes by the header takes images to have other pixels than they have."""
    cropped = encoding.cropped(0), encoding.cropped(1)
    made = encoding.image_matrix[:2] if interpolated else cropped
    wanted = encoding.recon.matrix[:2]
    if made != wanted:
        logger.warning(
            "images have %d x %d pixels, reconSpace says %d x %d, and %s: take the pixel size from "
            "the image (field_of_view, matrix_size); what converters take from the header, as "
            "Gadgetron's for DICOM do, is wrong",
            *made,
            *wanted,
            OTHER_MATRIX if interpolated else "image_matrix=encoded was asked for",
        )


def warm_up(
    engine: Engine, rows: int, columns: int, coils: int = WARM_COILS, acceleration: int = 4
) -> None:
    """Run a network for k-space, and what is around it, before the first slice is there.

    Libraries, memory and kernels are made ready for the sizes that will come; on a GPU, where work
    is recorded when it comes a second time, also the CUDA graph. Done once for an engine and sizes.
    A network that loads but can't run here is told of; the slices then go out by CG-SENSE.

    Args:
        engine: The engine.
        rows: Matrix along y.
        columns: Matrix along x.
        coils: Virtual coils.
        acceleration: Distance of the measured lines.
    """
    done = _WARM.setdefault(engine, set())
    sizes = (rows, columns, coils)
    if sizes in done:
        return
    try:
        with torch.inference_mode():
            _dry_run(engine, rows, columns, coils, acceleration)
        done.add(sizes)
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not cost the scan
        logger.warning("the network failed in its dry run: %s", first_line(error))


def _dry_run(engine: Engine, rows: int, columns: int, coils: int, acceleration: int) -> None:
    """One slice of an object that fills the image, in the steps of the reconstruction."""
    y, x = (torch.linspace(-1.0, 1.0, n, device=engine.device) for n in (rows, columns))
    angles = [2 * math.pi * coil / coils for coil in range(coils)]
    fields = [torch.hypot(y[:, None] - math.cos(a), x - math.sin(a)) for a in angles]
    strengths = torch.stack([torch.exp(-field.square()) for field in fields])
    maps = (strengths / strengths.square().sum(0).sqrt()).to(torch.complex64)
    weights = np.zeros(rows, np.float32)
    weights[:: max(acceleration, 1)] = 1
    known = Sensitivities(torch.eye(coils, dtype=maps.dtype, device=maps.device), maps)
    operator, narrow = known.operators(weights)
    normal = NarrowNormal(narrow) if narrow is not None else ColumnNormal(operator)
    truth = torch.exp(-4 * (y[:, None].square() + x.square())).to(maps.dtype)
    adjoint = operator.normal(truth)
    noise = torch.ones((1, 1, 1, 1), device=engine.device)
    channels = to_channels(adjoint[None])
    problem = Problem(channels, channels, normal, noise)
    for _ in range(RUNS_ON_A_GPU if engine.device.type == "cuda" else 1):
        made = engine.run(problem)
    image = to_complex(made.to(engine.device, torch.float32))[0]
    seen = operator.normal(image)
    level = Noise(1.0, coils * int(weights.sum()) * columns, float(weights.mean()))
    energy = adjoint.abs().square().sum()
    check(image, adjoint, adjoint, seen, energy, float(energy), level)
