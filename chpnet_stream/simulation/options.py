"""What a simulated scan shall be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chpnet_stream.errors import ConfigurationError

CalibrationMode = Literal["embedded", "separate"]


@dataclass(frozen=True)
class SimulationOptions:
    """A multi-slice, multi-coil, accelerated 2-D Cartesian scan of the head phantom.

    Attributes:
        matrix: Image matrix (y, x); y is the phase-encode direction.
        fov_mm: Field of view (y, x) in mm.
        slices: Number of slices.
        thickness_mm: Slice thickness.
        gap_mm: Space between neighbouring slices.
        interleaved: Measure slices 0, 2, 4, ... and then 1, 3, 5, ...; else one after the other.
        coils: Number of receive coils.
        acceleration: Distance R between measured phase-encode lines.
        calibration_lines: Fully sampled lines at the k-space centre; unused where R is 1.
        calibration_mode: `embedded` (in the imaging data, flags 20 and 21) or `separate` (before
            the imaging lines of each slice, flag 20).
        partial_fourier: Share of the phase-encode lines that is measured (the late ones), above
            0.5 and up to 1.
        partial_echo: Share of the readout that is sampled (the late part), above 0.5 and up to 1.
        oversampling: Readout oversampling.
        snr: Mean of the true image inside the head over the standard deviation of the real part of
            the noise of one coil, both per pixel of a fully sampled image of one average. None: no
            noise.
        noise_scan: Write a noise scan (flag 19) before everything else.
        averages: How often each line is measured; inside a slice, averages are the outer loop.
        repetitions: How often the whole scan is repeated.
        contrasts: Echoes per excitation, `ECHO_SPACING_MS` apart.
        bipolar: Alternate the readout gradient: odd echoes, or odd lines where there is one echo,
            are stored backwards (flag 22).
        weighting: `t1` or `t2`.
        tilt_deg: Rotation of the slice frame about the axes x (left), y (back) and its own normal.
        centre_mm: Middle of the slice stack in LPS mm.
        line_interval_ms: Time from one excitation to the next.
        dwell_us: Time per readout sample; the noise scan has `NOISE_DWELL_US`.
        waveforms: Write an ECG beside the acquisitions.
        seed: Chooses head, coils, phase and noise; the same options give the same samples.
    """

    matrix: tuple[int, int] = (256, 256)
    fov_mm: tuple[float, float] = (240.0, 240.0)
    slices: int = 5
    thickness_mm: float = 4.0
    gap_mm: float = 4.0
    interleaved: bool = True
    coils: int = 12
    acceleration: int = 4
    calibration_lines: int = 24
    calibration_mode: CalibrationMode = "embedded"
    partial_fourier: float = 1.0
    partial_echo: float = 1.0
    oversampling: int = 2
    snr: float | None = 40.0
    noise_scan: bool = True
    averages: int = 1
    repetitions: int = 1
    contrasts: int = 1
    bipolar: bool = False
    weighting: Literal["t1", "t2"] = "t1"
    tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    centre_mm: tuple[float, float, float] = (0.0, 0.0, 22.0)
    line_interval_ms: float = 10.0
    dwell_us: float = 5.0
    waveforms: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what can't be measured.

        Raises:
            ConfigurationError: With the option, its value and what was expected.
        """
        for name in ("slices", "coils", "acceleration", "oversampling", "averages"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("repetitions", "contrasts"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("thickness_mm", "line_interval_ms", "dwell_us"):
            self._require(name, getattr(self, name) > 0, "more than 0")
        for name in ("partial_fourier", "partial_echo"):
            self._require(name, 0.5 < getattr(self, name) <= 1, "above 0.5 and up to 1")
        self._require("matrix", min(self.matrix) >= 8, "at least 8 in each direction")
        self._require("fov_mm", min(self.fov_mm) > 0, "more than 0 in each direction")
        self._require("gap_mm", self.gap_mm >= 0, "0 or more")
        self._require("seed", self.seed >= 0, "0 or more")
        self._require("snr", self.snr is None or self.snr > 0, "more than 0, or none")
        self._require("weighting", self.weighting in ("t1", "t2"), "t1 or t2")
        modes = ("embedded", "separate")
        self._require("calibration_mode", self.calibration_mode in modes, "embedded or separate")
        counters = ("slices", "averages", "repetitions", "contrasts", "coils")
        for name in counters:
            self._require(name, getattr(self, name) <= 65535, "at most 65535 (a uint16 counter)")
        if self.acceleration > 1:
            span = 2 * (self.matrix[0] // 2 - self.first_line)
            allowed = 2 <= self.calibration_lines <= span
            self._require("calibration_lines", allowed, f"2 to {span} for this matrix")
        if self.acceleration > self.matrix[0] // 4:
            self._require("acceleration", False, f"at most {self.matrix[0] // 4} for this matrix")

    @property
    def first_line(self) -> int:
        """First phase-encode line of the full matrix that partial Fourier leaves."""
        return self.matrix[0] - round(self.matrix[0] * self.partial_fourier)

    @property
    def first_sample(self) -> int:
        """First sample of the full, oversampled readout that an asymmetric echo leaves."""
        full = self.matrix[1] * self.oversampling
        return full - round(full * self.partial_echo)

    @property
    def sampled_lines(self) -> NDArray[np.bool_]:
        """Lines of the accelerated imaging data, bool `ky`; the centre is one of them."""
        lines = np.arange(self.matrix[0])
        on_grid = (lines - self.matrix[0] // 2) % self.acceleration == 0
        return on_grid & (lines >= self.first_line)

    @property
    def calibrated_lines(self) -> NDArray[np.bool_]:
        """Calibration lines, bool `ky`; none without acceleration."""
        lines = np.arange(self.matrix[0])
        start = self.matrix[0] // 2 - self.calibration_lines // 2
        inside = (lines >= start) & (lines < start + self.calibration_lines)
        return inside & (lines >= self.first_line) & (self.acceleration > 1)

    @property
    def slice_order(self) -> list[int]:
        """Slice numbers in the order in which they are measured."""
        order = list(range(self.slices))
        return order[::2] + order[1::2] if self.interleaved else order

    def _require(self, name: str, met: bool, expected: str) -> None:
        if not met:
            found = getattr(self, name)
            raise ConfigurationError(f"simulation option {name} is {found}, expected {expected}")
