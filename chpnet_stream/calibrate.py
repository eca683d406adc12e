"""From a slice's calibration lines to what its reconstruction needs: coil matrix and maps."""

from __future__ import annotations

import logging
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from chpnet_stream.calibration_block import CalibrationBlock
from chpnet_stream.errors import MissingCalibrationError, ReconstructionError
from chpnet_stream.passing_thread import PassingThread
from chpnet_stream.physics.coils import compression_matrix, espirit
from chpnet_stream.physics.narrow_sense import NarrowSense
from chpnet_stream.physics.noise_level import estimate_noise
from chpnet_stream.physics.operators import ColumnSense
from chpnet_stream.scan.noise import NoiseScan
from chpnet_stream.scan.slices import Slice

CACHE_BYTES = 512 * 2**20
KEPT_FOR_A_PLACE = 4
"""Maps kept for one slice position: contrasts, phases and sets may have calibrations of their own.
"""
MOST_COMPARED = 256
"""Positions of which the outcome of the last comparison is remembered."""

LEAST_NOISE = 1e-6
"""Least noise that is believed, relative to the largest sample: below it data count as clean."""

logger = logging.getLogger(__name__)


_Operators = tuple[ColumnSense, NarrowSense | None]


@dataclass(frozen=True)
class Sensitivities:
    """What is known of the coils at one slice position.

    Attributes:
        matrix: Whitening and coil compression in one, complex `virtual coils`; noise has unit
            variance (of a complex sample) behind it.
        maps: Complex `virtual y x`, unit norm inside the object, zero outside.
        sense: A* A of these maps and of all lines, to be given the weights of a slice.
        narrow: The same with few coils a column, on a CPU; None elsewhere.
        mixing: The matrix on the CPU, where lines come in.
    """

    matrix: Tensor
    maps: Tensor
    sense: ColumnSense = field(init=False, repr=False)
    narrow: NarrowSense | None = field(init=False, repr=False)
    mixing: Tensor = field(init=False, repr=False)
    _weighted: dict[bytes, _Operators] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Lay out the maps for the operator: once, not for every slice."""
        weights = self.maps.real.new_ones(self.maps.shape[-2])
        object.__setattr__(self, "sense", ColumnSense(self.maps, weights))
        narrow = NarrowSense(self.maps, weights) if self.maps.device.type == "cpu" else None
        object.__setattr__(self, "narrow", narrow)
        object.__setattr__(self, "mixing", self.matrix.cpu())

    def operators(self, weights: np.ndarray) -> _Operators:
        """`sense` and `narrow` for the lines of a slice; kept, since most slices have the same.

        Args:
            weights: Weight of every line, float32 `ky`.
        """
        key = weights.tobytes()
        found = self._weighted.get(key)
        if found is None:
            on_device = torch.from_numpy(weights).to(self.maps.device)
            narrow = self.narrow.weighted(on_device) if self.narrow is not None else None
            self._weighted.clear()  # of other lines: one is enough
            found = self._weighted[key] = (self.sense.weighted(on_device), narrow)
        return found


@dataclass(frozen=True, eq=False)
class _Kept:
    """Maps, and the calibration samples and the whitening that they were made from."""

    block: CalibrationBlock
    whitening: Tensor
    sensitivities: Future[Sensitivities]


class CoilCalibration:
    """Whitening for the scan, and maps for every slice position, kept until they change.

    Attributes:
        noise_source: Where the noise level is from: "noise scan", "estimated" or "none".
        made: Maps that were made so far.

    Args:
        noise: Noise measured before the scan's first image line; may be empty.
        device: Where the maps are computed and kept.
        virtual_coils: Most virtual coils after compression.
    """

    def __init__(self, noise: NoiseScan, device: torch.device, virtual_coils: int = 8) -> None:
        self.noise = noise
        self.device = device
        self.virtual_coils = virtual_coils
        self.noise_source = "none"
        self.made = 0
        self._whitening: Tensor | None = None
        self._kept: OrderedDict[tuple[int, int], list[_Kept]] = OrderedDict()
        self._compared: OrderedDict[tuple[int, int], tuple[CalibrationBlock, _Kept]] = OrderedDict()
        self._beside = PassingThread("maps")

    @property
    def has_maps(self) -> bool:
        """Whether there were coil maps for any slice so far."""
        return bool(self._kept)

    def whiten_as(self, other: CoilCalibration) -> None:
        """Whiten as another one of the same scan does: images keep their scale."""
        self._whitening, self.noise_source = other._whitening, other.noise_source

    def whitening(self, data: Slice) -> Tensor:
        """Matrix `coils coils` (on the CPU) that gives noise unit variance of a complex sample.

        It is made from the noise scan. Where there is none that can be used (that of other coils
        can't), one factor for all coils comes from the first slice: coils keep their balance, and
        with it the image its shading. It stays the same for the whole scan, and so does the scale
        of the images.
        """
        if self._whitening is None and not self.noise.is_empty:
            unfit = self.noise.unfit(data.kspace.shape[0])
            if not unfit:
                dwell = float(data.head.sample_time_us)
                matrix = self.noise.whitening(dwell, coils=data.kspace.shape[0])
                self._whitening = torch.from_numpy(matrix)
                self.noise_source = self.noise.source
            else:
                logger.warning("%s; going on as if there were none", unfit)
        if self._whitening is None:
            return self._estimate(data)
        return self._whitening

    def _estimate(self, data: Slice) -> Tensor:
        """The same from the slice itself; kept for the scan unless the slice is empty."""
        kspace = torch.from_numpy(data.kspace)
        levels = estimate_noise(kspace, torch.from_numpy(data.noise_averages), data.echo_samples)
        levels = levels[levels > 0]
        level = float(levels.square().mean().sqrt()) if len(levels) else 0.0
        largest = float(kspace.abs().max())
        one = torch.eye(len(kspace), dtype=torch.complex64)
        if largest == 0:
            return one
        least = LEAST_NOISE * largest
        self.noise_source = "estimated" if level > least else "none"
        self._whitening = one / max(level, least)
        return self._whitening

    def sensitivities(self, data: Slice) -> Sensitivities:
        """Maps for a slice: those that are kept where its calibration is still the same.

        The same is what differs by no more than noise, and by a complex factor, which maps don't
        depend on (`CalibrationBlock.is_noise_from`).

        Raises:
            MissingCalibrationError: If the slice has too few calibration lines.
            ReconstructionError: If its calibration lines give no maps, for lack of signal.
        """
        whitening = self.whitening(data)
        if data.kspace.shape[0] == 1:
            return self._single(data, whitening)
        block = CalibrationBlock.of(data)
        while (kept := self._find(data, block, whitening)) is not None:
            try:
                return kept.sensitivities.result()
            except Exception as error:  # noqa: BLE001 - what was short there may be there now
                self._forget(data, kept)
                if not isinstance(error, ReconstructionError):
                    logger.warning("coil maps are made again after a %s", type(error).__name__)
        return self._begin(data, block, whitening).sensitivities.result()

    def anticipate(self, data: Slice) -> Future[Sensitivities] | None:
        """Begin with the maps of a slice that is still being measured, on another thread.

        What comes of it is used by `sensitivities` if the calibration is the same in the end.

        Args:
            data: The slice as it is now; its calibration lines are there.

        Returns:
            The maps, as soon as they are made; None where it can't be begun yet: nothing is known
            of the noise before the first slice is complete, or lines are missing.
        """
        unfit = self.noise.is_empty or self.noise.unfit(data.kspace.shape[0])
        if self._whitening is None and unfit:
            return None
        if data.kspace.shape[0] == 1:
            return None
        whitening = self.whitening(data)
        try:
            block = CalibrationBlock.of(data)
        except MissingCalibrationError:
            return None
        kept = self._find(data, block, whitening)
        if kept is None:
            kept = self._begin(data, block, whitening, self._beside)
        return kept.sensitivities

    def _find(self, data: Slice, block: CalibrationBlock, whitening: Tensor) -> _Kept | None:
        """What is kept for the position and still holds; the newest first."""
        place = _place(data)
        # Before the first slice that isn't empty the whitening is only a stand-in.
        here = [kept for kept in self._kept.get(place, []) if kept.whitening is whitening]
        before, found = self._compared.get(place, (None, None))
        if found in here and before is not None and before.equals(block):
            return found  # already compared while the slice was measured
        for kept in reversed(here):
            same = kept.block.equals(block)
            if not same and self.noise_source != "none":
                same = block.is_noise_from(kept.block, whitening.numpy())
            if same:
                self._kept.move_to_end(place)
                self._compared[place] = (block, kept)
                while len(self._compared) > MOST_COMPARED:
                    self._compared.popitem(last=False)
                return kept
        return None

    def _begin(
        self,
        data: Slice,
        block: CalibrationBlock,
        whitening: Tensor,
        thread: PassingThread | None = None,
    ) -> _Kept:
        """Make maps and keep them, here or on a thread."""
        self.made += 1
        work = partial(self._calibrate, data.counters["slice"], block, whitening)
        future: Future[Sensitivities] = Future()
        if thread is not None:
            future = thread.submit(work)
        else:
            future.set_result(work())
        kept = _Kept(block, whitening, future)
        place = _place(data)
        here = self._kept.setdefault(place, [])
        here.append(kept)
        del here[:-KEPT_FOR_A_PLACE]
        self._kept.move_to_end(place)
        coils = min(self.virtual_coils, len(block.samples))
        # maps, twice more in `sense`, and twice about half of that in `narrow`
        each = 4 * 8 * coils * block.shape[0] * block.shape[1]
        most = CACHE_BYTES // each
        while len(self._kept) > 1 and sum(map(len, self._kept.values())) > most:
            self._kept.popitem(last=False)
        return kept

    def _forget(self, data: Slice, kept: _Kept) -> None:
        """Drop maps that could not be made, so that the next slice tries again."""
        here = self._kept.get(_place(data), [])
        if kept in here:
            here.remove(kept)
        if not here:
            self._kept.pop(_place(data), None)

    def _single(self, data: Slice, whitening: Tensor) -> Sensitivities:
        """One coil: a map of ones."""
        place, shape = _place(data), data.kspace.shape
        kept = self._kept.get(place)
        if not kept or kept[0].block.shape != shape[1:] or kept[0].whitening is not whitening:
            maps = torch.ones(shape, dtype=torch.complex64, device=self.device)
            future: Future[Sensitivities] = Future()
            future.set_result(Sensitivities(whitening.to(self.device), maps))
            block = CalibrationBlock(np.zeros((1, 0, 0), np.complex64), np.zeros(0), shape[1:])
            kept = self._kept[place] = [_Kept(block, whitening, future)]
        return kept[0].sensitivities.result()

    def _calibrate(self, number: int, block: CalibrationBlock, whitening: Tensor) -> Sensitivities:
        """Maps from calibration samples.

        Raises:
            ReconstructionError: If there are none, for lack of signal.
        """
        with torch.inference_mode():
            whitening = whitening.to(self.device)
            samples = torch.from_numpy(block.samples).to(self.device)
            samples = torch.einsum("vc,cyx->vyx", whitening, samples)
            try:
                compression = compression_matrix(samples, limit=self.virtual_coils)
                samples = torch.einsum("vc,cyx->vyx", compression, samples)
                maps = espirit(samples, block.shape).maps
                if not maps.any():
                    raise ValueError("they agree nowhere: noise alone, or damaged")
            except (ValueError, torch.linalg.LinAlgError) as error:
                raise ReconstructionError(
                    f"slice {number}: no coil sensitivities from {block.samples.shape[1]} lines: "
                    f"{error}; check the calibration lines"
                ) from error
            return Sensitivities(compression @ whitening, maps)


def _place(data: Slice) -> tuple[int, int]:
    return data.counters["slice"], data.counters.get("partition", 0)
