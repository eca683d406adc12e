"""Images or image arrays in, enhanced ones out: for chains that keep Gadgetron's reconstruction.

Geometry, phase and meta are kept; there are more pixels in the same field of view. Without a model
for the task `superres` images go on unchanged, told in their meta and once in the log; with
on_error=error the scan ends with an error instead.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ismrmrd
import numpy as np

from chpnet_stream.enhancement import Enhanced, Enhancer
from chpnet_stream.errors import ModelError, ReconstructionError
from chpnet_stream.metrics import SessionMetrics
from chpnet_stream.mrd.wire.image import parse_meta
from chpnet_stream.mrd.wire.image_array import ImageArray
from chpnet_stream.options import ReconstructionOptions
from chpnet_stream.streaming.watch import ScanWatch

PHASE, COLOUR = 2, 6
"""image_type of what has no magnitude to enhance."""

QUANTITATIVE = "Quantitative"
"""DataRole of maps (of T1, velocity ...): by the standard, nobody changes their values."""

EMPTY = "an image without pixels has nothing to enhance"

HISTORIES = ("ImageProcessingHistory", "GADGETRON_ImageProcessingHistory")
COMMENTS = ("ImageComments", "GADGETRON_ImageComment")
SERIES_SUFFIX = "SequenceDescriptionAdditional"

logger = logging.getLogger(__name__)


class ImageHandler:
    """Enhances images; everything else goes on unchanged, in order.

    Args:
        options: What to do: model, engine, on_error, deadline_ms, send_baseline.
        find: Gives the enhancer of the options' model.
        watch: Follows the images on their way out.

    Raises:
        ModelError: With on_error=error, if there is no model for the task.
    """

    def __init__(
        self,
        options: ReconstructionOptions,
        find: Callable[[ReconstructionOptions], Enhancer],
        watch: ScanWatch | None = None,
    ) -> None:
        self.options = options
        self.watch = watch or ScanWatch()
        self.metrics = SessionMetrics()
        self.enhancer: Enhancer | None = None
        self.reason = ""
        try:
            self.enhancer = find(options)
        except ModelError as error:
            if options.on_error == "error":
                raise
            self.reason = str(error)
            logger.warning("images are passed on unchanged: %s", error)

    def take(self, item: Any, received_at: float) -> Iterator[Any]:
        """See `pump.Handler.take`."""
        deadline = self.options.deadline(received_at)
        if isinstance(item, ismrmrd.Image):
            yield from self.watch.images(self._both(item, deadline), received_at)
        elif isinstance(item, ImageArray):
            yield from self.watch.images([self._array(item, deadline)], received_at)
        else:
            yield item

    def _both(self, item: Any, deadline: float | None) -> Iterator[Any]:
        """The enhanced image, and the one that came where that is asked for."""
        made = self._image(item, deadline)
        yield made
        if self.options.send_baseline and made is not item:
            item.image_series_index = self.options.baseline_series
            yield item

    def finish(self) -> Iterator[Any]:
        """See `pump.Handler.finish`.

        Raises:
            EmptyScanError: Raw data came, and no image.
        """
        others = None if self.metrics.images else self.watch.others("images")
        if others is not None:
            raise others
        yield from ()

    def close(self) -> None:
        """See `pump.Handler.close`."""
        if self.enhancer is not None:
            self.enhancer.runner.close()

    def _image(self, image: Any, deadline: float | None) -> Any:
        """An `ismrmrd.Image` of the same type with more pixels."""
        reason = self.reason or _kept_because(image)
        if self.enhancer is None or reason:
            self._mark(image.meta, None, reason)
            self.metrics.images += 1
            self.metrics.methods["passed on"] += 1
            return image
        enhanced = [self._enhance(plane, deadline) for plane in _planes(image.data)]
        fine = np.stack([e.image for e in enhanced])
        channels, z, _, _ = image.data.shape
        pixels = fine.reshape(channels, z, *fine.shape[1:])
        head = image.getHead()
        head.matrix_size = (pixels.shape[3], pixels.shape[2], z)
        made = ismrmrd.Image(head=head, meta=ismrmrd.Meta(image.meta))
        kind = made.data.dtype
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            pixels = np.clip(np.rint(pixels), limits.min, limits.max)
        made.data[...] = pixels.astype(kind)
        self._mark(made.meta, enhanced)
        return made

    def _array(self, array: ImageArray, deadline: float | None) -> ImageArray:
        """An image array with more pixels."""
        metas = [parse_meta(m) for m in array.meta]
        if self.enhancer is None or not array.data.size:
            for meta in metas:
                self._mark(meta, None, self.reason or EMPTY)
            count = array.headers.size
            self.metrics.images += count
            self.metrics.methods["passed on"] += count
            return _with_meta(array, array.data, array.headers, metas)
        x, y, *rest = array.data.shape
        planes = array.data.reshape(x, y, -1, order="F")
        enhanced = [self._enhance(planes[:, :, i].T, deadline) for i in range(planes.shape[2])]
        fine = np.stack([e.image.T for e in enhanced], axis=2)
        data = fine.reshape(*fine.shape[:2], *rest, order="F").astype(np.complex64)
        headers: np.ndarray = array.headers.copy()
        for index in np.ndindex(*headers.shape):
            head: Any = copy.copy(headers[index])
            headers[index] = head
            head.matrix_size = (fine.shape[0], fine.shape[1], head.matrix_size[2])
        each = max(1, len(enhanced) // max(1, len(metas)))
        for i, meta in enumerate(metas):
            self._mark(meta, enhanced[i * each : (i + 1) * each])
        return _with_meta(array, data, headers, metas)

    def _enhance(self, plane: np.ndarray, deadline: float | None) -> Enhanced:
        assert self.enhancer is not None  # noqa: S101 - asked by the callers
        made = self.enhancer(plane, deadline)
        self.metrics.images += 1
        self.metrics.methods["interpolated" if made.fallback else "superres"] += 1
        if made.fallback is not None:
            kind = made.fallback.partition(":")[0]
            self.metrics.fallbacks[kind] += 1
            failed = made.asked and kind != "late"
            if failed and self.options.on_error == "baseline-only":
                self.enhancer.given_up = made.fallback
            if failed and self.options.on_error == "error":
                raise ReconstructionError(
                    f"the network gave no fit image ({made.fallback}), and on_error=error asks for "
                    "an end; on_error=fallback sends the interpolated image instead"
                )
        return made

    def _mark(self, meta: Any, enhanced: list[Enhanced] | None, reason: str = "") -> None:
        """Tell in the meta of an image what was done to it."""
        if enhanced is None or self.enhancer is None:
            marks: Mapping[str, str] = {"ChpnetMethod": "passed on", "ChpnetFallback": reason}
            step = "passed on"
        else:
            engine, factor = self.enhancer.engine, self.enhancer.factor
            reasons = sorted({e.fallback for e in enhanced if e.fallback is not None})
            step = f"{'interpolated' if reasons else 'superres'} x{factor}"
            marks = {
                "ChpnetMethod": step,
                "ChpnetModel": engine.card.name,
                "ChpnetModelChecksum": engine.card.checksum,
                "ChpnetEngine": self.enhancer.ran_by,
                "ChpnetDataConsistencyResidual": f"{max(e.residual for e in enhanced):.5f}",
            }
            if reasons:
                marks = {**marks, "ChpnetFallback": "; ".join(reasons)}
            meta["Keep_image_geometry"] = "1"
            named = [*_listed(meta.get(SERIES_SUFFIX)), f"chpnet {step}"]
            meta[SERIES_SUFFIX] = "_".join(named)
        meta.update(marks)
        for name in HISTORIES:
            meta[name] = [*_listed(meta.get(name)), "chpnet-stream", step]
        for name in COMMENTS:
            meta[name] = [*_listed(meta.get(name)), f"chpnet-stream {step}: for research use"]


def _kept_because(image: Any) -> str:
    """Why an `ismrmrd.Image` goes on as it came; empty where it is to be enhanced."""
    if not image.data.size:
        return EMPTY
    if image.image_type in (PHASE, COLOUR):
        kind = "phase" if image.image_type == PHASE else "colour"
        return f"a {kind} image has no magnitude to enhance"
    if QUANTITATIVE in _listed(image.meta.get("DataRole")):
        return "values of a quantitative image are not to be changed"
    return ""


def _planes(data: np.ndarray) -> np.ndarray:
    """Images `n y x` of data `channels z y x`."""
    return data.reshape(-1, *data.shape[2:])


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _with_meta(
    array: ImageArray, data: np.ndarray, headers: np.ndarray, metas: list[Any]
) -> ImageArray:
    raw = [str(meta.serialize()).encode("utf-8") for meta in metas]
    for head, text in zip(headers.ravel(order="F"), raw, strict=False):
        head.attribute_string_len = len(text)
    return ImageArray(data, headers, raw, array.waveforms, array.acquisition_headers)
