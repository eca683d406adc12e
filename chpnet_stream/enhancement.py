"""Images in, sharper images out: the `superres` task on images that somebody else has made."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from chpnet_stream.deadline import DeadlineRunner, StoppableNormal, TooLateError
from chpnet_stream.engines.engine import Engine, Problem, first_line
from chpnet_stream.errors import EngineError, ModelError
from chpnet_stream.network.config import Measured
from chpnet_stream.network.normal import SuperresNormal, superres_start

DEFAULT_FACTOR = 2
LEVEL = 0.99
"""Quantile of the first image's magnitude that the network sees as one, for the whole scan."""

LARGEST_RESIDUAL = 0.25
"""Measured again, an image may miss the one it was made of by this share of that one's norm."""

HANG_SECONDS = 120.0
"""After so long a GPU is not waited for any more; for its first image it makes itself ready."""

HAAR_MEDIAN = 0.6745
"""Median of the absolute value of a standard normal variable."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Enhanced:
    """An enhanced image.

    Attributes:
        image: `y x`, both axes `factor` times as long; complex where the input was.
        fallback: Why it was only interpolated; None where the network made it.
        residual: What the image, measured again, misses of the input, relative to its norm.
        asked: The network was asked; where it wasn't, a fallback is no failure of it.
    """

    image: np.ndarray
    fallback: str | None
    residual: float
    asked: bool = True


class Enhancer:
    """Enhances the images of one scan; the network works on magnitudes, phases are interpolated.

    So are the signs of real images that have them (phase-sensitive inversion recovery).

    Attributes:
        given_up: Why the network is not asked any more, once that is set: images are interpolated.
        ran_by: What ran the network for the newest image.
        turn: Held while an image is worked on; by default nobody has to wait.
        apart: The network runs on a thread of its own, which has the cores, also where there is
            no deadline; the caller's can then leave its cores to that one
            (`idle_threads.work_alone`).

    Args:
        engine: A loaded network of task `superres`.

    Raises:
        ModelError: The network is for another task.
    """

    def __init__(self, engine: Engine) -> None:
        if engine.card.student.task != "superres":
            raise ModelError(
                f"model {engine.card.name} is for the task '{engine.card.student.task}', expected "
                "one for 'superres'; choose another one (see `chpnet-stream models`)"
            )
        self.engine = engine
        self.factor = _factor(engine)
        self.normal = SuperresNormal(self.factor, _measured(engine))
        self.given_up: str | None = None
        self.ran_by = engine.name
        self.turn: Callable[[], AbstractContextManager[object]] = nullcontext
        self.apart = False
        self.fallbacks: Counter[str] = Counter()
        self.runner = DeadlineRunner()
        weakref.finalize(self, self.runner.close)  # a scan that fails may not end its thread
        self._scale = 0.0

    def __call__(self, image: np.ndarray, deadline: float | None = None) -> Enhanced:
        """Enhance one image.

        Args:
            image: `y x`, real or complex; pixels that are NaN or infinite count as zero, and the
                network is not asked.
            deadline: When it must be ready, in terms of `time.monotonic()`.
        """
        source = torch.from_numpy(np.ascontiguousarray(image))
        source = source.to(torch.complex64 if source.is_complex() else torch.float32)
        with self.turn(), torch.inference_mode():
            low = source.abs()
            known = low.isfinite()
            damaged = not bool(known.all())
            if damaged:  # one such pixel would spread over its image, and by the scale over all
                source, low = (torch.where(known, x, torch.zeros_like(x)) for x in (source, low))
            if not self._scale:
                self._scale = float(torch.quantile(low.flatten()[:: _step(low)], LEVEL))
            low = low / (self._scale or 1.0)
            start = superres_start(low[None, None], self.normal).clamp_min(0)
            made, fallback = start, self._trouble(low, damaged)
            asked = fallback is None
            if asked:
                made, fallback = self._by_network(start, low, deadline)
            magnitude = made[0, 0] * (self._scale or 1.0)
            missed = self._missed(made, low)
            pixels = magnitude * self._phase(source)
            return Enhanced(pixels.cpu().numpy(), fallback, missed, asked)

    def _trouble(self, low: Tensor, damaged: bool) -> str | None:
        """Why there is no point in asking the network."""
        if self.given_up is not None:
            return self.given_up
        if damaged:
            return "the image that came has NaN or infinite pixels"
        return None if bool(low.any()) else "the image that came is empty"

    def _by_network(
        self, start: Tensor, low: Tensor, deadline: float | None
    ) -> tuple[Tensor, str | None]:
        """The network's image, or `start` and why."""
        limit = deadline
        if deadline is None and self.engine.device.type != "cpu":
            limit = time.monotonic() + HANG_SECONDS
        try:
            if limit is None and not self.apart:
                made = self._run(start, low, threading.Event())
            else:
                made = self.runner.run(lambda stop: self._run(start, low, stop), limit)
        except TooLateError:
            if deadline is None:
                detail = f"no answer within {HANG_SECONDS:g} s, it is not asked any more"
                self.given_up = self._note("GPU hangs", detail)
                return start, self.given_up
            return start, self._note("late", "the network's image was not ready at the deadline")
        except EngineError as error:
            return start, self._note("engine failed", str(error))
        except Exception as error:
            logger.debug("enhancement failed", exc_info=True)
            detail = f"{type(error).__name__}: {first_line(error)}"
            return start, self._note("unexpected error", detail)
        made = made.clamp_min(0)
        if not bool(made.isfinite().all()):
            return start, self._note("not finite", "the network's image has NaN or infinite pixels")
        missed = self._missed(made, low)
        if not missed <= LARGEST_RESIDUAL:
            detail = f"measured again it misses the image by {missed:.3f}"
            return start, self._note("misses the data", detail)
        return made, None

    def _run(self, start: Tensor, low: Tensor, stop: threading.Event) -> Tensor:
        f, device = self.factor, self.engine.device
        noise = f * self.engine.card.noise_factor * estimate_image_noise(low)
        adjoint = self.normal.adjoint(low[None, None])
        with torch.inference_mode():
            made = self.engine.run(
                Problem(
                    start.to(device),
                    adjoint.to(device),
                    StoppableNormal(self.normal, stop),
                    torch.full((1, 1, 1, 1), noise, device=device),
                )
            )
        if not stop.is_set():
            self.ran_by = self.engine.name  # on this thread: other scans may use it beside
        return made.to("cpu", torch.float32)

    def _phase(self, source: Tensor) -> Tensor:
        """Complex unit phases on the finer grid; of real images the signs."""
        if source.is_complex():
            parts = torch.view_as_real(source).movedim(-1, 0)[None]
        elif bool((source < 0).any()):
            parts = source[None, None]
        else:
            return torch.ones(1)
        if self.normal.measured == "centre":
            fine = self.normal.adjoint(parts)
        else:
            fine = functional.interpolate(
                parts, scale_factor=self.factor, mode="bilinear", align_corners=False
            )
        if not source.is_complex():
            return torch.where(fine[0, 0] < 0, -1.0, 1.0)
        return torch.exp(1j * torch.atan2(fine[0, 1], fine[0, 0]))

    def _missed(self, fine: Tensor, low: Tensor) -> float:
        """What an image, measured again, misses of the one that came, over that one's norm."""
        norm = float(low.norm())
        return float((self.normal.forward(fine)[0, 0] - low).norm()) / norm if norm else 0.0

    def _note(self, kind: str, detail: str) -> str:
        if not self.fallbacks[kind]:
            logger.warning(
                "no image by %s, %s (%s); the interpolated image is sent instead, here and "
                "wherever it happens again",
                self.engine.card.name,
                kind,
                detail,
            )
        self.fallbacks[kind] += 1
        return f"{kind}: {detail}"


def estimate_image_noise(image: Tensor) -> float:
    """Standard deviation of white noise in an image `y x`, from its finest diagonal details.

    Median absolute deviation of the Haar wavelet's diagonal part (Donoho and Johnstone, Biometrika
    1994;81:425); structure along rows and columns cancels in it.
    """
    rows, columns = (n - n % 2 for n in image.shape)
    even = image[:rows, :columns]
    if even.numel() == 0:
        return 0.0
    detail = (even[::2, ::2] - even[1::2, ::2] - even[::2, 1::2] + even[1::2, 1::2]) / 2
    return float(detail.abs().median()) / HAAR_MEDIAN


def _step(image: Tensor) -> int:
    """`torch.quantile` takes at most 2^24 values."""
    return 1 + image.numel() // 2**24


def _measured(engine: Engine) -> Measured:
    """How the images that the network was trained on were measured."""
    settings = engine.card.recipe.get("superres")
    found = settings.get("measured") if isinstance(settings, dict) else None
    return "centre" if found == "centre" else "blocks"


def _factor(engine: Engine) -> int:
    """The factor that the network was trained for; the smallest, where there are several."""
    settings = engine.card.recipe.get("superres")
    factors = settings.get("factors") if isinstance(settings, dict) else None
    if isinstance(factors, list | tuple) and factors:
        return int(min(factors))
    return DEFAULT_FACTOR
