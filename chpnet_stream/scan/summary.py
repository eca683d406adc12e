"""What a scan is, in numbers, and whether it can be reconstructed: for `chpnet-stream info`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chpnet_stream.mrd import flags
from chpnet_stream.mrd.files import ScanFile
from chpnet_stream.mrd.header import COUNTERS, Encoding
from chpnet_stream.scan.calibration import FEWEST_LINES


@dataclass
class ScanSummary:
    """Facts about one scan, from its header and the headers of its acquisitions.

    Attributes:
        path: the file.
        group: the HDF5 group.
        ismrmrd_version: schema version that the header states, or None.
        protocol: protocol or series name; empty where unknown.
        vendor: system vendor and model; empty where unknown.
        acquisitions: number of acquisitions.
        waveforms: number of waveforms.
        flag_counts: acquisitions by the flags that say what they are (noise, calibration ...).
        coils: coils of the image data.
        encoded_matrix: `x y z`.
        image_matrix: `x y z` of an image and its partitions.
        recon_matrix: `x y z` of reconSpace; nothing is interpolated to it where it is another.
        recon_fov_mm: `x y z`.
        trajectory: as the header says.
        counters: how many different values slice, contrast, phase, repetition, set, average ...
            have among the image data.
        oversampling: readout oversampling factor.
        stated_acceleration: of the header, along step 1.
        measured_acceleration: most frequent distance of neighbouring image lines that are not
            calibration lines, in one slice.
        net_acceleration: range of the lines over their number, calibration lines included.
        image_lines: different lines of image data in one slice.
        calibration_lines: different calibration lines in one slice.
        calibration_mode: as the header says, or None.
        noise_samples: samples of the noise scan, 0 without one.
        partial_fourier: fraction of the symmetric range about the centre that the lines span;
            below 1 with partial Fourier.
        phase_resolution: that symmetric range as a fraction of the encoded matrix.
        echo_fraction: fraction of the readout measured; below 1 with asymmetric echo.
        reversed_lines: readouts acquired backwards.
        notes: what was tolerated in the header.
        problems: why it can't be reconstructed; empty where it can.
    """

    path: str
    group: str
    ismrmrd_version: int | None
    protocol: str
    vendor: str
    acquisitions: int
    waveforms: int
    flag_counts: dict[str, int]
    coils: int
    encoded_matrix: tuple[int, int, int]
    image_matrix: tuple[int, int, int]
    recon_matrix: tuple[int, int, int]
    recon_fov_mm: tuple[float, float, float]
    trajectory: str
    counters: dict[str, int]
    oversampling: float
    stated_acceleration: int
    measured_acceleration: int
    net_acceleration: float
    image_lines: int
    calibration_lines: int
    calibration_mode: str | None
    noise_samples: int
    partial_fourier: float
    phase_resolution: float
    echo_fraction: float
    reversed_lines: int
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def can_reconstruct(self) -> bool:
        """The verdict."""
        return not self.problems


class _Tally:
    """Collects what the acquisition headers say, block by block."""

    def __init__(self) -> None:
        self.flag_counts: Counter[str] = Counter()
        self.values: dict[str, set[int]] = {name: set() for name in COUNTERS}
        self.encodings: Counter[int] = Counter()
        self.coils: Counter[int] = Counter()
        self.image_lines: set[int] = set()
        self.calibration_lines: set[int] = set()
        self.slots: set[tuple[int, ...]] = set()
        self.noise_samples = 0
        self.reversed = 0
        self.echo: tuple[int, int, int] | None = None

    def add(self, heads: np.ndarray) -> None:
        """Count one block of acquisition headers."""
        mask = heads["flags"]
        for flag in flags.FLAGS:
            if flag.treatment is not flags.Treatment.EDGE:
                count = int(flags.has(mask, flag.mask).sum())
                if count:
                    self.flag_counts[flag.name] += count
        noise, image, calibration = (
            f(mask) for f in (flags.is_noise, flags.is_image, flags.is_calibration)
        )
        self.noise_samples += int(heads["number_of_samples"][noise].sum())
        self.reversed += int(flags.is_reverse(mask[image]).sum())
        self.calibration_lines |= set(heads["idx"]["kspace_encode_step_1"][calibration].tolist())
        images = heads[image]
        if len(images) == 0:
            return
        for name in COUNTERS:
            self.values[name] |= set(np.unique(images["idx"][name]).tolist())
        self.encodings.update(images["encoding_space_ref"].tolist())
        self.coils.update(images["active_channels"].tolist())
        self._lines(images)
        if self.echo is None:
            first = images[0]
            self.echo = (
                int(first["number_of_samples"]) - int(first["discard_post"]),
                int(first["discard_pre"]),
                int(first["center_sample"]),
            )

    def _lines(self, images: np.ndarray) -> None:
        """Lines of the first slice that appears: one slice stands for all."""
        idx = images["idx"]
        names = ("slice", "contrast", "phase", "repetition", "set")
        key = np.stack([idx[name] for name in names], axis=1)
        if not self.slots:
            self.slots.add(tuple(key[0].tolist()))
        first = np.array(next(iter(self.slots)))
        same = (key == first).all(axis=1)
        self.image_lines |= set(idx["kspace_encode_step_1"][same].tolist())


def summarise(scan: ScanFile) -> ScanSummary:
    """Read the header and all acquisition headers (no samples) of an open scan.

    Raises:
        TruncatedFileError: the file can't be read to its end.
    """
    tally = _Tally()
    for heads in scan.heads():
        tally.add(heads)
    header = scan.header
    index = tally.encodings.most_common(1)[0][0] if tally.encodings else 0
    encoding = header.encodings[min(index, len(header.encodings) - 1)]
    encoded = encoding.encoded
    cropped = max(encoding.cropped(0), 1)
    lines = tally.image_lines | (
        set() if encoding.calibration_mode in ("separate", "external") else tally.calibration_lines
    )
    partial_fourier, phase_resolution = _coverage(lines, encoding)
    return ScanSummary(
        path=str(scan.path),
        group=scan.group,
        ismrmrd_version=header.version,
        protocol=header.protocol,
        vendor=" ".join(
            header.system[k] for k in ("systemVendor", "systemModel") if header.system.get(k)
        ),
        acquisitions=scan.number_of_acquisitions,
        waveforms=scan.number_of_waveforms,
        flag_counts=dict(tally.flag_counts),
        coils=tally.coils.most_common(1)[0][0] if tally.coils else 0,
        encoded_matrix=encoded.matrix,
        image_matrix=encoding.image_matrix,
        recon_matrix=encoding.recon.matrix,
        recon_fov_mm=encoding.recon.field_of_view_mm,
        trajectory=encoding.trajectory,
        counters={name: len(found) for name, found in tally.values.items()},
        oversampling=encoded.matrix[0] / cropped,
        stated_acceleration=encoding.acceleration[0],
        measured_acceleration=_spacing(tally.image_lines - tally.calibration_lines),
        net_acceleration=(max(lines) - min(lines) + 1) / len(lines) if lines else 1.0,
        image_lines=len(tally.image_lines),
        calibration_lines=len(tally.calibration_lines),
        calibration_mode=encoding.calibration_mode,
        noise_samples=tally.noise_samples,
        partial_fourier=partial_fourier,
        phase_resolution=phase_resolution,
        echo_fraction=_echo_fraction(tally.echo, encoding),
        reversed_lines=tally.reversed,
        notes=list(header.notes),
        problems=_problems(tally, scan, encoding),
    )


def _spacing(lines: set[int]) -> int:
    gaps = np.diff(sorted(lines))
    return int(np.bincount(gaps).argmax()) if len(gaps) else 1


def _coverage(lines: set[int], encoding: Encoding) -> tuple[float, float]:
    """Partial Fourier fraction and phase resolution; a line stands for the gap that follows it."""
    size = encoding.encoded.matrix[1]
    if not lines or size < 1:
        return 0.0, 0.0
    centre = encoding.limit("kspace_encoding_step_1").center
    below, above = centre - min(lines), max(lines) - centre + encoding.acceleration[0]
    span = 2 * max(below, above, 1)
    return min(1.0, (below + above) / span), min(1.0, span / size)


def _echo_fraction(echo: tuple[int, int, int] | None, encoding: Encoding) -> float:
    size = encoding.encoded.matrix[0]
    if echo is None or size < 1:
        return 0.0
    stop, start, _ = echo
    cropped = encoding.cropped(0)
    return min(1.0, (stop - start) / (cropped if stop - start == cropped else size))


def _problems(tally: _Tally, scan: ScanFile, encoding: Encoding) -> list[str]:
    found = list(encoding.problems())
    if not tally.encodings:
        found.append(
            f"none of the {scan.number_of_acquisitions} acquisitions is image data; choose another "
            "group or file"
        )
    if len(tally.encodings) > 1:
        which = ", ".join(str(e) for e in sorted(tally.encodings))
        found.append(f"image data in encoding spaces {which}, expected one; split the scan")
    if len(tally.coils) > 1:
        counts = ", ".join(str(c) for c in sorted(tally.coils))
        found.append(f"image data with {counts} coils, expected the same number in all")
    flagged = tally.calibration_lines or encoding.calibration_mode == "interleaved"
    if tally.image_lines and not flagged:
        centre = _central_run(tally.image_lines, encoding.limit("kspace_encoding_step_1").center)
        if centre < FEWEST_LINES:
            found.append(
                f"no calibration lines (flags 20, 21), and {centre} lines side by side at the "
                f"k-space centre, expected at least {FEWEST_LINES} to estimate the coil maps from"
            )
    return found


def _central_run(lines: set[int], centre: int) -> int:
    """Lines around the k-space centre without a gap."""
    first = last = centre
    while first - 1 in lines:
        first -= 1
    while last + 1 in lines:
        last += 1
    return last - first + 1 if centre in lines else 0


def as_dict(summary: ScanSummary) -> dict[str, Any]:
    """The summary as plain values, with the verdict, for JSON."""
    from dataclasses import asdict

    return {**asdict(summary), "can_reconstruct": summary.can_reconstruct}
