"""What a scan says of itself: the ISMRMRD XML header, read tolerantly and judged strictly.

The XML is read directly (0.2 ms; the package's own parser takes about 10 ms and stops at headers of
older ISMRMRD versions that lack `patientPosition`, spell the trajectory in capitals, or hold
elements that the schema of 1.15 doesn't know). What was tolerated is listed in `ScanHeader.notes`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from chpnet_stream.errors import HeaderError, UnsupportedScanError
from chpnet_stream.size_limits import VARIABLE, size_limit

DEFAULT_NOISE_BANDWIDTH = 0.793
"""Relative receiver noise bandwidth where the header has none (the value Gadgetron assumes)."""

LARGEST_MATRIX = 2**27
"""Samples of one coil that a scan may have in an encoding (512 x 512 x 512)."""

MOST_ENLARGED = 4
"""Pixels of reconSpace that one encoded pixel may become along an axis."""

OTHER_MATRIX = (
    f"nothing is padded, made coarser, finer than by {MOST_ENLARGED}, or put between partitions"
)
"""Why images may have other pixels than reconSpace says."""

COUNTERS = ("average", "slice", "contrast", "phase", "repetition", "set", "segment")


@dataclass(frozen=True)
class Limit:
    """Range of an encoding counter, and its value at the k-space centre."""

    minimum: int = 0
    maximum: int = 0
    center: int = 0

    @property
    def count(self) -> int:
        """Number of values from minimum to maximum."""
        return self.maximum - self.minimum + 1


@dataclass(frozen=True)
class Space:
    """encodedSpace or reconSpace: matrix size `(x, y, z)`, field of view `(x, y, z)` in mm."""

    matrix: tuple[int, int, int]
    field_of_view_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Encoding:
    """One encoding space of the header.

    Attributes:
        is_flattened: The matrix had several partitions, though only one is encoded.
    """

    index: int
    encoded: Space
    recon: Space
    trajectory: str
    limits: dict[str, Limit]
    acceleration: tuple[int, int] = (1, 1)
    calibration_mode: str | None = None
    interleaving_dimension: str | None = None
    multiband_factor: int = 1
    is_flattened: bool = False

    def limit(self, name: str) -> Limit:
        """The limit of that name; 0 to 0 with centre 0 where the header has none."""
        return self.limits.get(name, Limit())

    def cropped(self, axis: int) -> int:
        """Size of an axis (0 x, 1 y, 2 z) after its field of view is cut to that of reconSpace.

        The voxel size stays that of the encoded space: 384 samples over 560 mm become 192 over
        280 mm. Where the reconstructed field of view is not smaller, nothing is cut.
        """
        n = self.encoded.matrix[axis]
        fov, wanted = self.encoded.field_of_view_mm[axis], self.recon.field_of_view_mm[axis]
        if fov <= 0 or wanted <= 0 or wanted >= fov:
            return n
        return max(1, min(n, round(n * wanted / fov)))

    def enlarged(self, axis: int) -> tuple[int, float]:
        """Pixels of an axis (0 x, 1 y) of images interpolated to those of reconSpace.

        Where reconSpace shows more than was encoded, its pixel size is taken and nothing is
        padded. Images never get coarser; nor finer than by `MOST_ENLARGED`, which is no header of
        a scanner.

        Returns:
            Their number, and their size in encoded pixels; `cropped(axis)` and 1 where there is
            nothing to be gained.
        """
        n, wanted = self.encoded.matrix[axis], self.recon.matrix[axis]
        fov, shown = self.encoded.field_of_view_mm[axis], self.recon.field_of_view_mm[axis]
        cropped = self.cropped(axis)
        if min(fov, shown) <= 0 or min(n, wanted) < 1:
            return cropped, 1.0
        step = (shown / wanted) / (fov / n)
        size = wanted if shown <= fov else round(n / step)
        if size <= cropped or step * MOST_ENLARGED < 1 - 1e-6:
            return cropped, 1.0
        return size, step

    @property
    def image_matrix(self) -> tuple[int, int, int]:
        """Pixels `(x, y, z)` of an interpolated image and its partitions.

        That of reconSpace may be another: nothing is padded, made coarser than it was encoded, or
        finer than by `MOST_ENLARGED`.
        """
        return self.enlarged(0)[0], self.enlarged(1)[0], self.cropped(2)

    @property
    def has_finer_recon(self) -> bool:
        """Whether images interpolated to reconSpace have other pixels than the encoded ones."""
        return any(self.enlarged(axis)[1] < 1 for axis in (0, 1))

    def first_row(self, step: int) -> int:
        """Row in the encoded matrix (of n) where line 0 of kspace_encoding_step_1 or _2 belongs.

        The center of the limits is in row n // 2. Where it is one off, so that the first or the
        last line of the limits would fall outside (127 for lines 0 to 255 of 256), they are moved
        by that one, which leaves magnitudes as they are.
        """
        n, limit = self.encoded.matrix[step], self.limit(f"kspace_encoding_step_{step}")
        row = n // 2 - limit.center
        fitting = max(-limit.minimum, min(row, n - 1 - limit.maximum))
        return fitting if abs(fitting - row) == 1 and limit.count <= n else row

    @property
    def is_3d(self) -> bool:
        """True where a second phase-encoding direction is there to be transformed."""
        return self.encoded.matrix[2] > 1

    def problems(self) -> list[str]:
        """Why image data of this encoding can't be reconstructed, one line a reason."""
        where = f"encoding {self.index}"
        found: list[str] = []
        if self.trajectory != "cartesian":
            found.append(
                f"{where}: trajectory is '{self.trajectory}', expected 'cartesian'; reconstruct it "
                "with a non-Cartesian or EPI tool, or grid it first"
            )
        most = size_limit("matrix_samples", LARGEST_MATRIX)
        for name, space in (("encodedSpace", self.encoded), ("reconSpace", self.recon)):
            size = " x ".join(map(str, space.matrix))
            if min(space.matrix) < 1:
                found.append(
                    f"{where}: {name} matrix is {size}, expected at least 1 in each; fix it"
                )
            elif math.prod(space.matrix) > most:
                found.append(
                    f"{where}: {name} matrix is {size}, expected at most {most:,} samples in all; "
                    f"fix the header, or set {VARIABLE}=matrix_samples=..."
                )
        needed = ["kspace_encoding_step_1"] + ["kspace_encoding_step_2"] * self.is_3d
        for name in needed:
            if name not in self.limits:
                found.append(
                    f"{where}: encodingLimits has no {name}, expected its minimum, maximum and "
                    "center to place the lines; add them to the header"
                )
            elif self.limits[name].count < 1:
                limit = self.limits[name]
                found.append(
                    f"{where}: {name} runs from {limit.minimum} to {limit.maximum}, expected "
                    "minimum <= maximum; fix the header"
                )
        if self.acceleration[1] > 1:
            found.append(
                f"{where}: acceleration {self.acceleration[1]} along kspace_encoding_step_2, "
                "expected 1 (only step 1 may be undersampled); use a 3-D parallel imaging tool"
            )
        if self.multiband_factor > 1:
            found.append(
                f"{where}: multiband factor {self.multiband_factor}, expected 1; separate the "
                "simultaneous slices first"
            )
        return found


@dataclass(frozen=True)
class Waveform:
    """A waveform announced by the header: its name and type (ecg, pulse, respiratory ...)."""

    name: str
    type: str


@dataclass(frozen=True)
class ScanHeader:
    """The header of a scan. Frequencies in Hz, times in ms, angles in degrees, lengths in mm.

    Attributes:
        xml: the header as it came, to be handed on unchanged.
        version: ISMRMRD schema version, where stated.
        measurement: text of the simple elements of measurementInformation, by element name.
        system: the same of acquisitionSystemInformation.
        study: the same of studyInformation.
        coil_names: coil names by order in the header, `(number, name)`.
        dependencies: measurements that this one refers to, `(type, measurementID)`.
        user_parameters: userParameterLong, -Double and -String together.
        notes: what was tolerated while reading, and what was put in its place.
    """

    xml: bytes
    encodings: tuple[Encoding, ...]
    version: int | None = None
    h1_frequency_hz: int | None = None
    receiver_channels: int | None = None
    field_strength_t: float | None = None
    noise_bandwidth: float = DEFAULT_NOISE_BANDWIDTH
    te_ms: tuple[float, ...] = ()
    tr_ms: tuple[float, ...] = ()
    ti_ms: tuple[float, ...] = ()
    flip_angle_deg: tuple[float, ...] = ()
    sequence_type: str | None = None
    patient_position: str | None = None
    measurement: dict[str, str] = field(default_factory=dict)
    system: dict[str, str] = field(default_factory=dict)
    study: dict[str, str] = field(default_factory=dict)
    coil_names: tuple[tuple[int, str], ...] = ()
    dependencies: tuple[tuple[str, str], ...] = ()
    user_parameters: dict[str, int | float | str] = field(default_factory=dict)
    waveforms: tuple[Waveform, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def from_xml(cls, xml: bytes | str) -> ScanHeader:
        """Read an ISMRMRD header.

        Raises:
            HeaderError: not XML, a document type declaration, another root element, no encoding,
                or a number that is none.
        """
        from chpnet_stream.mrd.header_xml import HeaderReader

        raw = xml.encode("utf-8") if isinstance(xml, str) else bytes(xml)
        return HeaderReader(raw).header()

    @property
    def protocol(self) -> str:
        """Protocol or series name, for humans; empty where the header has none."""
        for key in ("protocolName", "seriesDescription", "sequenceName"):
            if self.measurement.get(key):
                return self.measurement[key]
        return ""

    def problems(self) -> list[str]:
        """Why the scan can't be reconstructed (one line a reason), as far as the header tells.

        A scan with several encodings is judged by the one that is possible, if there is one: which
        of them have image data is known only when the acquisitions come.
        """
        by_encoding = [encoding.problems() for encoding in self.encodings]
        if any(not found for found in by_encoding):
            return []
        return [line for found in by_encoding for line in found]

    def check(self) -> None:
        """Refuse the scan if the header rules it out.

        Raises:
            UnsupportedScanError: with the reasons of `problems`, in one line.
        """
        found = self.problems()
        if found:
            raise UnsupportedScanError("this scan can't be reconstructed: " + "; ".join(found))

    @cached_property
    def ismrmrd(self) -> Any:
        """The header as the ismrmrd package's own object (`ismrmrd.xsd.ismrmrdHeader`).

        Headers that its parser refuses are mended for this purpose only: unknown elements left
        out, a missing patientPosition set to HFS, spellings of trajectory and calibrationMode
        lowered.

        Raises:
            HeaderError: the parser refuses it all the same.
        """
        import warnings

        from ismrmrd import xsd

        from chpnet_stream.mrd.header_xml import mended

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values, those of the patient too
            try:
                return xsd.CreateFromDocument(self.xml)
            except Exception as first:  # noqa: BLE001  (the parser's errors have no common root)
                try:
                    return xsd.CreateFromDocument(mended(self.xml))
                except Exception as second:
                    raise HeaderError(
                        f"the ismrmrd package can't parse this header: {first}; after mending: "
                        f"{second}"
                    ) from second

    def __getstate__(self) -> dict[str, Any]:
        """State without the cached package object, which is rebuilt when asked for."""
        return {k: v for k, v in self.__dict__.items() if k != "ismrmrd"}
