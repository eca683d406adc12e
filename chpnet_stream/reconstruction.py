"""Slice in, image out: the one place where the steps are put in order."""

from __future__ import annotations

import logging
import math
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from chpnet_stream.ahead import Ahead, Prepared, noise_of_lines
from chpnet_stream.calibrate import CoilCalibration, Sensitivities
from chpnet_stream.damaged_lines import DamagedLines, damaged_lines
from chpnet_stream.deadline import DeadlineRunner, GivenUpError, StoppableSolver, TooLateError
from chpnet_stream.engines.engine import Engine, Problem, first_line
from chpnet_stream.errors import (
    EngineError,
    InputError,
    MissingCalibrationError,
    ReconstructionError,
)
from chpnet_stream.methods import LADDERS, LATE, METHODS, Reconstruction
from chpnet_stream.metrics import StageClock
from chpnet_stream.mrd.images import crop_to_recon
from chpnet_stream.network.normal import ColumnNormal, NarrowNormal, to_channels, to_complex
from chpnet_stream.physics.classical import ConjugateGradient, zero_filled_rss
from chpnet_stream.physics.narrow_gradient import NarrowGradient
from chpnet_stream.physics.narrow_sense import NarrowSense
from chpnet_stream.physics.operators import ColumnSense
from chpnet_stream.quality import Noise, Quality, check, residual
from chpnet_stream.recon_pixels import on_recon_pixels
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.slices import GrowingSlice, Slice
from chpnet_stream.symmetry import symmetrize

CG_REGULARIZATION = 1e-2
CG_ITERATIONS = 10

HANG_SECONDS = 30.0
"""After so long a GPU is not waited for any more."""
logger = logging.getLogger(__name__)

T = TypeVar("T")


class _Unfit(Exception):  # noqa: N818 - no error: the next method is tried
    """No image of this method, or none to be sent: its kind, why, and a mark on the data."""

    def __init__(self, kind: str, detail: str, mark: str = "") -> None:
        super().__init__(detail)
        self.kind = kind
        self.mark = mark


@dataclass
class _Work:
    """One slice, ready for the methods that use coil maps; images stored as `x y`."""

    sensitivities: Sensitivities
    operator: ColumnSense
    narrow: NarrowSense | None
    adjoint: Tensor
    energy: float
    noise: Noise
    mark: str
    """What is wrong with the lines; empty where nothing is."""
    solved: dict[tuple[float, int], Tensor] = field(default_factory=dict)

    def residual(self, columns: Tensor) -> float:
        """How far an image stored as `x y` is from the data, see `quality.residual`."""
        return residual(columns, self.adjoint, self.operator.energy(columns), self.energy)


@dataclass
class _Job:
    """One slice on its way through the steps."""

    data: Slice
    wanted: str
    clock: StageClock
    work: _Work | None = None
    reasons: list[str] = field(default_factory=list)
    stop: threading.Event | None = None
    mark: str = ""
    broken: bool = False
    """A method failed by an error that nobody expected."""
    engine: str | None = None
    """What ran the network."""


class SliceReconstructor:
    """Reconstructs the slices of one scan.

    Attributes:
        judged: Told of what the checks of each network image found; nobody by default.
        inspected: Told of what was found of the lines of each slice; nobody by default.
        fallbacks: Images that are not of the method asked for, by kind of reason.
        apart: Slices are reconstructed on the thread of `runner`, not on the caller's, which can
            then leave its cores to that one (`idle_threads.work_alone`).

    Args:
        noise: The scan's noise acquisitions; they must be complete when the first slice comes.
        engine: The loaded network; needed for method `chpnet`.
        method: What to send.
        device: Where to compute; by default the engine's device, else the CPU.
        virtual_coils: Most virtual coils after compression.
        complex_images: Give complex images where the method has a phase; else magnitudes.
        interpolated: Give images of the pixels of reconSpace where these are finer than the
            encoded ones.

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
        complex_images: bool = False,
        interpolated: bool = False,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f"expected a method of {', '.join(METHODS)}, found '{method}'")
        if method == "chpnet" and engine is None:
            raise ValueError("expected an engine for method 'chpnet', found none")
        self.method = method
        self.engine = engine
        self.device = device or (engine.device if engine else torch.device("cpu"))
        self.calibration = CoilCalibration(noise, self.device, virtual_coils)
        self.complex_images = complex_images
        self.interpolated = interpolated
        self._ahead = Ahead(self.calibration, self.device)
        self._anticipates = True
        self.judged: Callable[[Quality], None] | None = None
        self.inspected: Callable[[DamagedLines], None] | None = None
        self.fallbacks: Counter[str] = Counter()
        self.apart = False
        self.runner, self._spare = DeadlineRunner(), DeadlineRunner()
        for runner in (self.runner, self._spare):
            weakref.finalize(self, runner.close)  # a scan that fails may not end its threads
        self._by_cpu: SliceReconstructor | None = None
        self._hangs = False

    def __call__(
        self,
        data: Slice,
        method: str | None = None,
        *,
        deadline: float | None = None,
        baseline: bool = False,
    ) -> Reconstruction:
        """Reconstruct a slice; where a method fails or its image is not fit, by the next one.

        With a deadline the conventional image is made first, and goes out if the network's is not
        ready by then.

        Args:
            data: The slice.
            method: Another method than the scan's, for comparisons.
            deadline: When the image must be there, in terms of `time.monotonic()`.
            baseline: Give the conventional image beside the network's.

        Raises:
            MissingCalibrationError: If a complete slice has no calibration lines, and no slice
                before it had any.
            ReconstructionError: If no method gives a finite image.
        """
        wanted = method or self.method
        if wanted not in LADDERS or (wanted == "chpnet" and self.engine is None):
            raise ValueError(f"expected a method that can be used here, found '{wanted}'")
        job = _Job(data, wanted, StageClock(self.device))
        try:
            with torch.inference_mode():
                if wanted == "chpnet" and (deadline is not None or baseline):
                    return self._beside_conventional(job, deadline, baseline)
                return self._first_somewhere(job, LADDERS[wanted])
        finally:
            self._ahead.forget(data)

    def _first_somewhere(self, job: _Job, ladder: Sequence[str]) -> Reconstruction:
        """The image of the first method that has a fit one; by the CPU where a GPU hangs."""
        patience = HANG_SECONDS if self._on_gpu else None
        if not self._hangs:
            try:
                return self.on_its_thread(partial(self._first_of, job, ladder), patience)
            except TooLateError:
                self._hangs = True
        detail = f"no answer within {HANG_SECONDS:g} s, it is not asked any more"
        self._note_fallback(job, ladder[0], "GPU hangs", detail)
        return self.on_its_thread(partial(self._refuge, job, ladder))

    @property
    def _on_gpu(self) -> bool:
        return self.device.type != "cpu"

    def _first_of(self, job: _Job, ladder: Sequence[str]) -> Reconstruction:
        """The image of the first method that has a fit one."""
        for name in ladder:
            if self._on_gpu and job.broken and (job.work is None or name == "rss"):
                break
            if job.reasons and job.work is None and name != "rss":
                continue  # without coil maps there is only one method left
            made = self._tried(job, name, partial(self._attempt, job, name))
            if made is not None:
                return made
            if self._hangs:
                raise GivenUpError  # this call did: another thread has made the slice meanwhile
        if self._on_gpu and job.broken:
            return self._refuge(job, ladder)
        raise self._no_image(job, ladder)

    def _no_image(self, job: _Job, ladder: Sequence[str]) -> ReconstructionError:
        return ReconstructionError(
            f"slice {job.data.counters['slice']}: expected an image, found none by "
            f"{', '.join(ladder)} ({'; '.join(job.reasons)}); check its raw data"
        )

    def _refuge(self, job: _Job, ladder: Sequence[str]) -> Reconstruction:
        """The conventional image by the CPU: a GPU that has failed may fail in all that follows."""
        method = "cg-sense" if ladder[0] == "chpnet" else ladder[0]
        if self._by_cpu is None:
            self._by_cpu = SliceReconstructor(
                self.calibration.noise,
                None,
                method=method,
                device=torch.device("cpu"),
                virtual_coils=self.calibration.virtual_coils,
                complex_images=self.complex_images,
                interpolated=self.interpolated,
            )
            self._by_cpu.calibration.whiten_as(self.calibration)
        self._by_cpu.inspected = self.inspected
        made = self._tried(job, f"{method} on the CPU", partial(self._by_cpu, job.data, method))
        if made is None:
            raise self._no_image(job, ladder)
        reasons = [*job.reasons, *filter(None, [made.fallback])]
        return replace(made, wanted=job.wanted, fallback="; ".join(reasons))

    def _tried(
        self, job: _Job, name: str, make: Callable[[], Reconstruction]
    ) -> Reconstruction | None:
        """What `make` gives; None where the method fails, which is noted with the job."""
        try:
            return make()
        except InputError:  # the scan is at fault, not the method: its owner must know
            raise
        except _Unfit as unfit:
            self._note_fallback(job, name, unfit.kind, str(unfit))
            job.mark = unfit.mark or job.mark
        except Exception as error:  # noqa: BLE001 - whatever fails, the slice goes out
            job.broken = True
            detail = f"{type(error).__name__}: {first_line(error)}"
            self._note_fallback(job, name, "unexpected error", detail, trace=True)
        return None

    def _beside_conventional(
        self, job: _Job, deadline: float | None, baseline: bool
    ) -> Reconstruction:
        """The conventional image first; then the network's, if it is fit and in time."""
        made_first = self._first_somewhere(job, LADDERS["cg-sense"])
        conventional = replace(made_first, wanted="cg-sense")
        made: Reconstruction | None = None
        if job.work is not None and not self._hangs:
            # A job of its own: late work must not touch what has been sent.
            again = replace(job, clock=StageClock(self.device), reasons=[])
            made = self._tried(job, "chpnet", partial(self._in_time, again, deadline))
        # What the network's checks found of the data holds for both images.
        mark = _joined(conventional.mark, job.mark) if made is None else made.mark
        conventional = replace(conventional, mark=mark)
        if made is None:
            made = replace(conventional, wanted=job.wanted, fallback="; ".join(job.reasons))
        else:
            spent = {**conventional.milliseconds}
            for stage, milliseconds in made.milliseconds.items():
                spent[stage] = spent.get(stage, 0.0) + milliseconds
            made = replace(made, milliseconds=spent)
        return replace(made, baseline=conventional if baseline else None)

    def _in_time(self, job: _Job, deadline: float | None) -> Reconstruction:
        """The network's image.

        Raises:
            _Unfit: It is not ready at the deadline, or not fit.
        """
        if deadline is None:
            return self.on_its_thread(partial(self._attempt, job, "chpnet"))

        def work(stop: threading.Event) -> Reconstruction:
            with torch.inference_mode():  # of this thread
                return self._attempt(replace(job, stop=stop), "chpnet")

        try:
            return self.runner.run(work, deadline)
        except TooLateError as error:
            detail = "the network's image was not ready at the deadline"
            raise _Unfit(LATE, detail) from error

    def on_its_thread(self, make: Callable[[], T], patience: float | None = None) -> T:
        """What `make` gives, on the thread of the slices where there is one (`apart`).

        While late work goes on there it is made on a second one, and where no thread can be
        started it is made here.

        Args:
            make: The work.
            patience: Seconds that it is waited for; None for any time, as on this thread.

        Raises:
            TooLateError: They are over.
        """

        def work(stop: threading.Event) -> T:
            with torch.inference_mode():  # of this thread
                return make()

        deadline = None if patience is None else time.monotonic() + patience
        for runner in (self.runner, self._spare):
            if self.apart and runner.is_ready():
                return runner.run(work, deadline)
        return make()

    def _attempt(self, job: _Job, name: str) -> Reconstruction:
        """Reconstruct by one method."""
        notes = ["whitened"]
        coils = job.data.kspace.shape[0]
        found: float | None = None
        if name == "rss":
            image = self._root_sum_of_squares(job)
        else:
            if job.work is None:
                job.work = self._prepare(job)
            coils = len(job.work.sensitivities.maps)
            notes += ["ESPIRiT"] if coils > 1 else []
            if name == "chpnet":
                image, quality = self._network(job, job.work)
                found = quality.residual
            else:
                work = job.work
                if name == "cg-sense":
                    columns = self._solve(work, CG_REGULARIZATION, CG_ITERATIONS)
                    job.clock.lap("cg-sense")
                else:
                    columns = work.adjoint
                found = work.residual(columns)
                image = columns.mT
            # Along the lines the network was trained to do it.
            image, filled = symmetrize(job.data, image, rows=name != "chpnet")
            notes += filled
        encoding = job.data.encoding
        finer = self.interpolated and encoding.has_finer_recon
        if finer:
            image = on_recon_pixels(image, encoding)
            notes.append("interpolated")
        pixels = (image if self.complex_images else image.abs()).cpu().numpy()
        kind = np.complex64 if self.complex_images else np.float32
        cut = pixels if finer else crop_to_recon(pixels, encoding)
        made = np.ascontiguousarray(cut, dtype=kind)
        job.clock.lap("output")
        if not np.isfinite(made).all():
            raise _Unfit("not finite", f"NaN or infinite pixels by {name}")
        return Reconstruction(
            made,
            name,
            job.wanted,
            "; ".join(job.reasons) or None,
            found,
            coils,
            job.clock.milliseconds,
            (*notes, name),
            mark=_joined(job.work.mark if job.work else "", job.mark),
            engine=job.engine if name == "chpnet" else None,
        )

    def grow(self, growing: GrowingSlice) -> None:
        """Do what can be done for a slice while it is still being measured.

        Maps are made on another thread as soon as the calibration lines are there, and lines are
        whitened, compressed and transformed along x as soon as the maps are known. All of it is
        checked against the slice when it is complete; where it doesn't fit, it is done again.

        Args:
            growing: The slice, as of its newest line.
        """
        if not self._anticipates:
            return
        try:
            with torch.inference_mode():
                self._ahead.grow(growing)
        except Exception as error:  # noqa: BLE001 - what is wrong will show when the slice is done
            self._anticipates = False
            self._ahead.clear()
            logger.warning("slices are prepared when they are complete: %s", first_line(error))

    def close(self) -> None:
        """Let go of the threads, at the end of the scan."""
        for runner in (self.runner, self._spare):
            runner.close()
        self._ahead.clear()

    def _prepare(self, job: _Job) -> _Work:
        """Whiten, compress, calibrate; A* y and A* A."""
        data = job.data
        try:
            sensitivities = self.calibration.sensitivities(data)
        except MissingCalibrationError as error:
            if data.complete and not self.calibration.has_maps:
                raise  # the whole scan has none, as far as can be told: say so at once
            raise _Unfit("no coil maps", str(error)) from error
        except ReconstructionError as error:
            raise _Unfit("no coil maps", str(error)) from error
        job.clock.lap("calibration")
        prepared = self._ahead.lines(data, sensitivities)
        lines = prepared.lines
        most = max(int(data.sampled.max()), 1)
        weights = data.sampled.astype(np.float32) / most
        operator, narrow = sensitivities.operators(weights)
        adjoint = lines.adjoint(operator)
        energy = lines.energy(weights)
        job.clock.lap("data")
        samples = len(sensitivities.maps) * int(np.count_nonzero(data.sampled))
        samples *= max(data.echo_samples[1] - data.echo_samples[0], 0)
        share = 1.0 if data.filled is None else float(data.filled[data.sampled > 0].mean())
        noise = Noise(share / most, samples, float(weights.mean()))
        mark = self._mark_of(prepared, data)
        job.clock.lap("checks")
        return _Work(sensitivities, operator, narrow, adjoint, energy, noise, mark)

    def _mark_of(self, prepared: Prepared, data: Slice) -> str:
        """What is wrong with the lines of a slice; empty where nothing is."""
        known = self.calibration.noise_source != "none"
        try:
            found = damaged_lines(
                prepared.lines.data,
                data.sampled,
                noise=noise_of_lines(data.echo_samples, data.kspace.shape[2]),
                noise_known=known,
                averages=data.noise_averages,
                energies=prepared.lines.energies,
                prediction=prepared.prediction,
            )
        except Exception as error:  # noqa: BLE001 - an image that was not checked is better than none
            return f"the lines could not be checked ({type(error).__name__}: {first_line(error)})"
        if self.inspected is not None:
            self.inspected(found)
        return found.mark

    def _solve(self, work: _Work, regularization: float, iterations: int) -> Tensor:
        """CG-SENSE's image, stored as `x y`.

        What a network starts from is met on the way to the conventional image: it is kept.
        """
        wanted = regularization, iterations
        if wanted not in work.solved:
            card = self.engine.card if self.engine else None
            stops = {iterations}
            if card is not None and card.start_regularization == regularization:
                stops.add(card.start_iterations)
            solver: ConjugateGradient | NarrowGradient
            if work.narrow is None:
                solver = ConjugateGradient(
                    work.operator.normal_columns, work.adjoint, regularization=regularization
                )
            else:
                packed = work.narrow.pack(work.adjoint)
                solver = NarrowGradient(work.narrow, packed, regularization)
            for done in range(iterations + 1):
                if done in stops:
                    narrow = work.narrow
                    image = solver.x if narrow is None else narrow.unpack(solver.x)
                    work.solved[regularization, done] = image
                if done < iterations:
                    solver.step()
        return work.solved[wanted]

    def _network(self, job: _Job, work: _Work) -> tuple[Tensor, Quality]:
        """The network's image, complex `y x`, if it may be sent."""
        engine = self.engine
        if engine is None:
            raise ValueError("expected an engine for method 'chpnet', found none")
        card = engine.card
        start = self._solve(work, card.start_regularization, card.start_iterations)
        job.clock.lap("start")
        columns: ColumnNormal | NarrowNormal
        columns = NarrowNormal(work.narrow) if work.narrow else ColumnNormal(work.operator)
        normal = columns if job.stop is None else StoppableSolver(columns, job.stop)
        deviation = math.sqrt(0.5 * work.noise.variance)  # of a real part
        problem = Problem(
            to_channels(start.mT[None]),
            to_channels(work.adjoint.mT[None]),
            normal,
            torch.full((1, 1, 1, 1), card.noise_factor * deviation, device=self.device),
        )
        try:
            made = engine.run(problem)
        except EngineError as error:
            raise _Unfit("engine failed", str(error)) from error
        finally:
            job.clock.lap("network")
        job.engine = engine.name  # now: another scan's run may change it
        if made.shape != problem.start.shape:
            raise _Unfit(
                "engine failed",
                f"expected an image {tuple(problem.start.shape)}, found {tuple(made.shape)}",
            )
        image = to_complex(made.to(self.device, torch.float32).mT)[0]  # x y, as the others
        normal_image = work.operator.normal_columns(image)  # of all coils, what is sent is checked
        quality = check(
            image,
            start,
            work.adjoint,
            normal_image,
            work.operator.energy(start),
            work.energy,
            work.noise,
            card.gate,
        )
        job.clock.lap("checks")
        job.mark = quality.mark
        if self.judged is not None:
            self.judged(quality)
        if quality.problem is not None:
            raise _Unfit(quality.problem, quality.detail, quality.mark)
        return image.mT, quality

    def _root_sum_of_squares(self, job: _Job) -> Tensor:
        """On the CPU whatever the device: what is left when a GPU fails."""
        job.clock.device = torch.device("cpu")  # a GPU that fails is not even to be waited for
        kspace = torch.from_numpy(job.data.kspace)
        try:
            whitening = self.calibration.whitening(job.data)
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 - an image in other units is better than none
            self._note_fallback(job, "whitening", "not whitened", first_line(error), trace=True)
            whitening = torch.eye(len(kspace), dtype=kspace.dtype)
        # Squares must neither overflow nor vanish; a power of two changes no digit.
        largest = float(kspace.abs().max())
        scale = 2.0 ** math.frexp(largest)[1] if 0 < largest < math.inf else 1.0
        if job.work is not None:
            job.work.solved.clear()  # memory may be what the other methods lacked
        energy = torch.zeros(kspace.shape[1:])
        white, part = (torch.empty_like(kspace[0]) for _ in range(2))
        for row in whitening.tolist():  # coil by coil, which takes little memory
            white.zero_()
            for weight, coil in zip(row, kspace, strict=True):
                if weight:
                    white += torch.div(coil, scale, out=part).mul_(weight)
            energy += zero_filled_rss(white[None]).square()
        magnitude = energy.sqrt_() * scale
        job.clock.lap("rss")
        return magnitude

    def _note_fallback(
        self, job: _Job, method: str, kind: str, detail: str, *, trace: bool = False
    ) -> None:
        """Count a fallback, and log the first one of its kind."""
        job.reasons.append(f"{kind}: {detail}")
        if not self.fallbacks[kind]:
            logger.warning(
                "slice %d: no image by %s, %s (%s); a simpler method is used instead, here and "
                "wherever it happens again",
                job.data.counters["slice"],
                method,
                kind,
                detail,
                exc_info=trace,
            )
        self.fallbacks[kind] += 1


def _joined(*marks: str) -> str:
    return "; ".join(filter(None, marks))
