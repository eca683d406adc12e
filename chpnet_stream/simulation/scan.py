"""Writes a simulated scan as an ISMRMRD file, with the truth inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chpnet_stream.mrd.hdf5_disk import Hdf5Disk
from chpnet_stream.simulation.geometry import SliceGeometry, slice_geometry
from chpnet_stream.simulation.header import simulation_header
from chpnet_stream.simulation.kspace import ECHO_SPACING_MS, SliceTruth, simulate_slice
from chpnet_stream.simulation.noise import CoilNoise
from chpnet_stream.simulation.options import SimulationOptions
from chpnet_stream.simulation.phantom import HeadPhantom
from chpnet_stream.simulation.waveform import SAMPLE_MS, ecg_waveforms, since_r_wave
from chpnet_stream.whole_file import check_target, whole_file

NOISE_DWELL_US = 12.5
NOISE_SAMPLES = 1024
GROUP = "dataset"

_FIRST_TICK = 36_000_000 // 25 * 10  # ten in the morning, in ticks of 2.5 ms since midnight
_MEASUREMENT_UID = 1


@dataclass(frozen=True)
class SimulatedScan:
    """What was written.

    Attributes:
        path: The file.
        acquisitions: Number of acquisitions, noise scan included.
        imaging_lines: Phase-encode lines of each slice and average, calibration included.
        waveforms: Number of waveforms.
        duration_s: Length of the scan by its own clock.
        noise_sigma: Standard deviation of the real part of the noise of one coil and sample.
    """

    path: Path
    acquisitions: int
    imaging_lines: int
    waveforms: int
    duration_s: float
    noise_sigma: float


def simulate_scan(
    path: Path | str,
    options: SimulationOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SimulatedScan:
    """Simulates a scan of the head phantom and writes it to an ISMRMRD file.

    Beside the scan, the group holds the truth: `truth/images` (float32 `slice y x`, root sum of
    squares of all coils, fully sampled, without noise; further contrasts in `truth/images_1`, ...),
    `truth/coil_maps` (complex64 `slice coils y x`), `truth/noise_covariance` (complex128
    `coils coils`, of one imaging sample) and `truth/snr_reference` (mean of the first contrast
    inside the head, to which `snr` refers).

    Reversed readouts are stored backwards; their `center_sample` counts in the turned order.

    Args:
        path: The file to make.
        options: The scan; by default five slices of 256 x 256 with 12 coils and R = 4.
        overwrite: Replace an existing file.
        progress: Called with the number of slices written and their total.

    Returns:
        What was written.

    Raises:
        OutputExistsError: If the file exists and `overwrite` is not set.
        OutputError: If it can't be written.
    """
    path, options = Path(path), options or SimulationOptions()
    check_target(path, overwrite=overwrite)
    with whole_file(path) as temporary:
        import ismrmrd

        disk = Hdf5Disk(temporary)
        try:
            with ismrmrd.Dataset(disk, GROUP, mode="w") as dataset:
                dataset.write_xml_header(simulation_header(options).encode())
                written = _Writer(path, options, dataset, disk).write(progress or (lambda *_: None))
            disk.check()
        finally:
            disk.close()
        return written


@dataclass
class _Writer:
    """Puts the acquisitions of one scan into an open file, in the order of measurement."""

    path: Path
    options: SimulationOptions
    dataset: Any
    disk: Hdf5Disk
    _count: int = 0
    _time_ms: float = 0.0
    _truth: dict[int, SliceTruth] = field(default_factory=dict)

    def write(self, progress: Callable[[int, int], None]) -> SimulatedScan:
        options = self.options
        phantom = HeadPhantom(options.seed)
        geometry = [slice_geometry(options, number) for number in range(options.slices)]
        for number in range(options.slices):
            self._truth[number] = simulate_slice(phantom, options, geometry[number])
            progress(number + 1, options.slices)
        images = np.stack([self._truth[number].images for number in range(options.slices)], axis=1)
        reference = float(images[0][images[0] > 0.1 * np.percentile(images[0], 99)].mean())
        sigma = reference / options.snr if options.snr is not None else 0.0
        self._noise = CoilNoise(options.coils, sigma, np.random.default_rng([options.seed, 3]))

        if options.noise_scan:
            self._append_noise_scan()
        for repetition in range(options.repetitions):
            for number in options.slice_order:
                self._append_slice(repetition, number, geometry[number])
        waveforms = 0
        if options.waveforms:
            for waveform in ecg_waveforms(_FIRST_TICK, self._time_ms, _MEASUREMENT_UID):
                self.dataset.append_waveform(waveform)
                waveforms += 1
        self._write_truth(images, reference)
        lines = int(np.sum(options.sampled_lines | self._embedded))
        return SimulatedScan(self.path, self._count, lines, waveforms, self._time_ms / 1000, sigma)

    @property
    def _embedded(self) -> NDArray[np.bool_]:
        """Calibration lines that are measured among the imaging lines."""
        return self.options.calibrated_lines & (self.options.calibration_mode == "embedded")

    def _append_noise_scan(self) -> None:
        import ismrmrd

        samples = self._noise.scan(NOISE_SAMPLES, NOISE_DWELL_US / self.options.dwell_us)
        noise = self._acquisition(samples)
        noise.sample_time_us = NOISE_DWELL_US
        noise.setFlag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
        self.dataset.append_acquisition(noise)
        self._time_ms += self.options.line_interval_ms

    def _append_slice(self, repetition: int, number: int, geometry: SliceGeometry) -> None:
        """All averages of one slice in one repetition, separate calibration lines first."""
        import ismrmrd

        options = self.options
        imaging = np.flatnonzero(options.sampled_lines | self._embedded)
        separate = options.calibration_mode == "separate" and options.acceleration > 1
        if separate and repetition == 0:
            for line in np.flatnonzero(options.calibrated_lines):
                flags = [ismrmrd.ACQ_IS_PARALLEL_CALIBRATION]
                self._append_line(geometry, int(line), {"slice": number}, flags)
        for average in range(options.averages):
            for line in imaging:
                opening, closing = [], []
                flags = self._line_flags(int(line), line == imaging[0], line == imaging[-1])
                if line == imaging[0] and average == 0:
                    flags.append(ismrmrd.ACQ_FIRST_IN_SLICE)
                    if number == options.slice_order[0]:
                        opening.append(ismrmrd.ACQ_FIRST_IN_REPETITION)
                if line == imaging[-1] and average == options.averages - 1:
                    flags.append(ismrmrd.ACQ_LAST_IN_SLICE)
                    if number == options.slice_order[-1]:
                        closing.append(ismrmrd.ACQ_LAST_IN_REPETITION)
                        if repetition == options.repetitions - 1:
                            closing.append(ismrmrd.ACQ_LAST_IN_MEASUREMENT)
                counters = {"slice": number, "repetition": repetition, "average": average}
                self._append_line(geometry, int(line), counters, flags, opening, closing)

    def _line_flags(self, line: int, begins: bool, ends: bool) -> list[int]:
        """Flags that a line has in every slice, average and repetition."""
        import ismrmrd

        flags = []
        if begins:
            flags += [ismrmrd.ACQ_FIRST_IN_ENCODE_STEP1, ismrmrd.ACQ_FIRST_IN_AVERAGE]
            flags += [ismrmrd.ACQ_FIRST_IN_CONTRAST]
        if ends:
            flags += [ismrmrd.ACQ_LAST_IN_ENCODE_STEP1, ismrmrd.ACQ_LAST_IN_AVERAGE]
            flags += [ismrmrd.ACQ_LAST_IN_CONTRAST]
        if self._embedded[line]:
            both = bool(self.options.sampled_lines[line])
            flags.append(
                ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING
                if both
                else ismrmrd.ACQ_IS_PARALLEL_CALIBRATION
            )
        return flags

    def _append_line(
        self,
        geometry: SliceGeometry,
        line: int,
        counters: dict[str, int],
        flags: list[int],
        opening: Sequence[int] = (),
        closing: Sequence[int] = (),
    ) -> None:
        """One excitation: the same line of every contrast.

        `flags` are for every contrast, `opening` for the first and `closing` for the last.
        """
        import ismrmrd

        options = self.options
        kspace = self._truth[counters["slice"]].kspace
        last = options.contrasts - 1
        for contrast in range(options.contrasts):
            samples = kspace[contrast, :, line, options.first_sample :]
            samples = samples + self._noise.samples(samples.shape[1])
            reverse = options.bipolar and (contrast if options.contrasts > 1 else line) % 2 == 1
            readout = self._acquisition(samples[:, ::-1] if reverse else samples)
            readout.center_sample = kspace.shape[-1] // 2 - options.first_sample
            readout.idx.kspace_encode_step_1 = line - options.first_line
            readout.idx.contrast = contrast
            for name, value in counters.items():
                setattr(readout.idx, name, value)
            here = [*flags, *(opening if contrast == 0 else ())]
            here += closing if contrast == last else ()
            for flag in here:
                readout.setFlag(flag)
            if reverse:
                readout.setFlag(ismrmrd.ACQ_IS_REVERSE)
            readout.position[:] = geometry.position_mm
            readout.read_dir[:] = geometry.read
            readout.phase_dir[:] = geometry.phase
            readout.slice_dir[:] = geometry.normal
            self._stamp(readout, contrast * ECHO_SPACING_MS)
            self.dataset.append_acquisition(readout)
            self.disk.check()
        self._time_ms += options.line_interval_ms

    def _acquisition(self, samples: NDArray[np.complex64]) -> Any:
        import ismrmrd

        readout = ismrmrd.Acquisition.from_array(np.ascontiguousarray(samples))
        readout.version = 1
        readout.measurement_uid = _MEASUREMENT_UID
        readout.scan_counter = self._count
        readout.available_channels = self.options.coils
        for coil in range(min(self.options.coils, 1024)):
            readout.setChannelActive(coil)
        readout.sample_time_us = self.options.dwell_us
        self._stamp(readout, 0.0)
        self._count += 1
        return readout

    def _stamp(self, readout: Any, after_ms: float) -> None:
        time = self._time_ms + after_ms
        readout.acquisition_time_stamp = _FIRST_TICK + int(time / SAMPLE_MS)
        if self.options.waveforms:
            readout.physiology_time_stamp[0] = int(since_r_wave(time) / SAMPLE_MS)

    def _write_truth(self, images: NDArray[np.float32], reference: float) -> None:
        """Stores images `contrasts slice y x`, coil maps, noise, and the mean behind the SNR."""
        truth = self.dataset._file.require_group(GROUP).create_group("truth")
        for contrast, volume in enumerate(images):
            truth.create_dataset("images" if contrast == 0 else f"images_{contrast}", data=volume)
        maps = np.stack([self._truth[number].coil_maps for number in range(self.options.slices)])
        truth.create_dataset("coil_maps", data=maps)
        truth.create_dataset("noise_covariance", data=self._noise.covariance)
        truth.create_dataset("snr_reference", data=reference)
