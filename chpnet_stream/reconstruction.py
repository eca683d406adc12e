"""Slice in, image out: the one place where the steps are put in order."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from chpnet_stream.calibrate import CoilCalibration, Sensitivities
from chpnet_stream.engines.engine import Engine, Problem
from chpnet_stream.errors import EngineError, ReconstructionError
from chpnet_stream.mrd.images import crop_to_recon
from chpnet_stream.network.normal import ColumnNormal, to_channels, to_complex
from chpnet_stream.physics.classical import cg_sense
from chpnet_stream.physics.coils import combine, root_sum_of_squares
from chpnet_stream.physics.fourier import ifft
from chpnet_stream.physics.operators import ColumnSense
from chpnet_stream.physics.partial_fourier import pocs
from chpnet_stream.quality import Quality, check, residual
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.slices import Slice

Method = Literal["chpnet", "cg-sense", "zero-filled", "rss"]
METHODS: tuple[str, ...] = get_args(Method)

CG_REGULARIZATION = 1e-2
CG_ITERATIONS = 10
ASYMMETRY = 0.06
"""Share of an axis by which one side must be measured further to count as partial Fourier."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconstruction:
    """An image and how it came to be.

    Attributes:
        image: Magnitude `y x`, float32, cut to the reconstructed field of view. Unit: standard
            deviation of the noise (of a complex sample of one average), the same for all
            slices of the scan.
        method: The method that made it.
        wanted: The method that was asked for.
        fallback: Why they differ; None where they don't.
        residual: Relative data-consistency residual; None for `rss`.
        virtual_coils: Coils after compression.
        milliseconds: Time of every step.
        notes: Steps for the image's processing history.
    """

    image: np.ndarray
    method: str
    wanted: str
    fallback: str | None
    residual: float | None
    virtual_coils: int
    milliseconds: dict[str, float]
    notes: tuple[str, ...]


@dataclass
class _Work:
    """One slice on its way through the steps."""

    data: Slice
    sensitivities: Sensitivities
    operator: ColumnSense
    adjoint: Tensor
    energy: float
    noise: float
    clock: _Clock
    notes: list[str] = field(default_factory=list)


class SliceReconstructor:
    """Reconstructs the slices of one scan.

    Args:
        noise: The scan's noise acquisitions; they must be complete when the first slice comes.
        engine: The loaded network; needed for method `chpnet`.
        method: What to send.
        device: Where to compute; by default the engine's device, else the CPU.
        virtual_coils: Most virtual coils after compression.

    Raises:
        ValueError: If the method is unknown, or `chpnet` without an engine.
    """

    def __init__(
        self,
        noise: NoiseScan,
        engine: Engine | None,
        *,
        method: str = "chpnet",
        device: torch.device | None = None,
        virtual_coils: int = 8,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"expected a method of {', '.join(METHODS)}, found '{method}'")
        if method == "chpnet" and engine is None:
            raise ValueError("expected an engine for method 'chpnet', found none")
        self.method = method
        self.engine = engine
        self.device = device or (engine.device if engine else torch.device("cpu"))
        self.calibration = CoilCalibration(noise, self.device, virtual_coils)
        self.fallbacks: Counter[str] = Counter()

    def __call__(self, data: Slice, method: str | None = None) -> Reconstruction:
        """Reconstruct a slice.

        Args:
            data: The slice.
            method: Another method than the scan's, for comparisons.

        Raises:
            MissingCalibrationError: If coil maps are needed and can't be estimated.
            ReconstructionError: If no method gives a finite image.
        """
        wanted = method or self.method
        with torch.inference_mode():
            if wanted == "rss":
                return self._root_sum_of_squares(data)
            work = self._prepare(data)
            made, fallback, quality = wanted, None, None
            if wanted == "chpnet":
                image, quality, fallback = self._network(work)
                if image is None:
                    made, image = "cg-sense", self._cg_sense(work)
            elif wanted == "cg-sense":
                image = self._cg_sense(work)
            else:
                image = work.adjoint
            found = (
                quality.residual if quality and made == "chpnet" else self._residual(work, image)
            )
            image = self._symmetrize(work, image, rows=made != "chpnet")
            magnitude = self._finish(image.abs(), work)
        return Reconstruction(
            magnitude,
            made,
            wanted,
            fallback,
            found,
            len(work.sensitivities.maps),
            work.clock.milliseconds,
            (*work.notes, made),
        )

    def _prepare(self, data: Slice) -> _Work:
        """Whiten, compress, calibrate; A* y and A* A."""
        clock = _Clock(self.device)
        sensitivities = self.calibration.sensitivities(data)
        clock.lap("calibration")
        kspace = torch.from_numpy(data.kspace).to(self.device)
        counts = torch.from_numpy(data.sampled).to(self.device, torch.float32)
        most = float(counts.max().clamp_min(1))
        weights = counts / most
        coils = torch.einsum("vc,cyx->vyx", sensitivities.matrix, kspace)
        energy = float((coils.abs().square() * weights[:, None]).double().sum())
        weighted = ifft(ifft(coils, dim=-1) * weights[:, None], dim=-2)
        adjoint = combine(weighted, sensitivities.maps)
        operator = ColumnSense(sensitivities.maps, weights)
        clock.lap("data")
        noise = (0.5 / most) ** 0.5
        work = _Work(data, sensitivities, operator, adjoint, energy, noise, clock)
        work.notes += ["whitened", "ESPIRiT"] if len(sensitivities.maps) > 1 else ["whitened"]
        return work

    def _cg_sense(self, work: _Work, iterations: int = CG_ITERATIONS) -> Tensor:
        image = self._solve(work, CG_REGULARIZATION, iterations)
        work.clock.lap("cg-sense")
        return image

    def _solve(self, work: _Work, regularization: float, iterations: int) -> Tensor:
        columns = cg_sense(
            work.operator.normal_columns,
            work.adjoint.mT.contiguous(),
            regularization=regularization,
            iterations=iterations,
            tolerance=0.0,
        )
        return columns.mT

    def _network(self, work: _Work) -> tuple[Tensor | None, Quality | None, str | None]:
        """The network's image if it may be sent, what was found, and why it may not."""
        engine = self.engine
        if engine is None:
            raise ValueError("expected an engine for method 'chpnet', found none")
        card = engine.card
        start = self._solve(work, card.start_regularization, card.start_iterations)
        work.clock.lap("start")
        problem = Problem(
            to_channels(start[None]),
            to_channels(work.adjoint[None]),
            ColumnNormal(work.operator),
            torch.full((1, 1, 1, 1), work.noise, device=self.device),
        )
        try:
            image = to_complex(engine.run(problem).to(self.device, torch.float32))[0]
        except EngineError as error:
            work.clock.lap("network")
            return None, None, self._note_fallback(work, "engine failed", str(error))
        work.clock.lap("network")
        quality = check(image, start, work.adjoint, work.operator.normal, work.energy)
        work.clock.lap("checks")
        if quality.problem:
            reason = self._note_fallback(work, "quality check failed", quality.problem)
            return None, quality, reason
        return image, quality, None

    def _note_fallback(self, work: _Work, kind: str, detail: str) -> str:
        """Count a fallback and log the first of its kind."""
        if not self.fallbacks[kind]:
            logger.warning(
                "slice %d: %s (%s); the conventional image is sent instead, here and wherever it "
                "happens again",
                work.data.counters["slice"],
                kind,
                detail,
            )
        self.fallbacks[kind] += 1
        return f"{kind}: {detail}"

    def _residual(self, work: _Work, image: Tensor) -> float:
        return residual(image, work.adjoint, work.operator.normal, work.energy)

    def _symmetrize(self, work: _Work, image: Tensor, *, rows: bool) -> Tensor:
        """Fill the side of k-space that was not measured, from the other by its phase.

        Along the lines only for conventional images: the network was trained to do it.
        """
        lines = np.flatnonzero(work.data.sampled)
        measured = range(int(lines[0]), int(lines[-1]) + 1)
        spacing = int(np.diff(lines).max(initial=1))
        if rows and _one_sided(measured, image.shape[-2], spacing):
            image = pocs(image, measured, axis=-2)
            work.notes.append("POCS along y")
        first, last = work.data.echo_samples
        if _one_sided(range(first, last), image.shape[-1], 1):
            image = pocs(image, range(first, last), axis=-1)
            work.notes.append("POCS along x")
        return image

    def _root_sum_of_squares(self, data: Slice) -> Reconstruction:
        clock = _Clock(self.device)
        whitening = self.calibration.whitening(data)
        kspace = torch.from_numpy(data.kspace).to(self.device)
        coils = torch.einsum("vc,cyx->vyx", whitening, kspace)
        magnitude = root_sum_of_squares(ifft(coils))
        image = crop_to_recon(magnitude.cpu().numpy(), data.encoding)
        clock.lap("rss")
        _refuse_bad_pixels(image, data)
        return Reconstruction(
            np.ascontiguousarray(image, dtype=np.float32),
            "rss",
            "rss",
            None,
            None,
            data.kspace.shape[0],
            clock.milliseconds,
            ("whitened", "rss"),
        )

    def _finish(self, magnitude: Tensor, work: _Work) -> np.ndarray:
        image = crop_to_recon(magnitude.cpu().numpy(), work.data.encoding)
        work.clock.lap("output")
        _refuse_bad_pixels(image, work.data)
        return np.ascontiguousarray(image, dtype=np.float32)


class _Clock:
    """Times of steps in milliseconds; waits for the GPU at every lap."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.milliseconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Note the time since the last lap under `name`."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.milliseconds[name] = self.milliseconds.get(name, 0.0) + 1e3 * (now - self._last)
        self._last = now


def _one_sided(measured: range, size: int, spacing: int) -> bool:
    """Whether one side of the centre is measured clearly further than the other."""
    before, after = size // 2 - measured.start, measured.stop - 1 - (size - 1) // 2
    return abs(before - after) > max(ASYMMETRY * size, spacing)


def _refuse_bad_pixels(image: np.ndarray, data: Slice) -> None:
    if not np.isfinite(image).all():
        raise ReconstructionError(
            f"slice {data.counters['slice']}: expected finite pixels, found NaN or infinity after "
            "the conventional reconstruction; check the raw data of this slice"
        )
