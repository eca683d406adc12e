"""Small scans for the tests, built acquisition by acquisition."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ismrmrd
import numpy as np

from chpnet_stream.mrd.header import ScanHeader
from chpnet_stream.scan.slices import SliceAssembler


def header_xml(
    nx: int = 32,
    ny: int = 16,
    nz: int = 1,
    oversampling: int = 2,
    limits: dict[str, tuple[int, int, int]] | None = None,
    acceleration: tuple[int, int] = (1, 1),
    mode: str | None = None,
    trajectory: str = "cartesian",
    extra: str = "",
    encodings: int = 1,
) -> str:
    """ISMRMRD header of an nx x ny x nz scan with 1 mm pixels, read out with oversampling."""
    ranges = {
        "kspace_encoding_step_1": (0, ny - 1, ny // 2),
        "kspace_encoding_step_2": (0, nz - 1, nz // 2),
    } | (limits or {})
    spaces = "".join(
        f"<{name}><matrixSize><x>{x}</x><y>{ny}</y><z>{nz}</z></matrixSize>"
        f"<fieldOfView_mm><x>{x}</x><y>{ny}</y><z>{5 * nz}</z></fieldOfView_mm></{name}>"
        for name, x in (("encodedSpace", nx * oversampling), ("reconSpace", nx))
    )
    counters = "".join(
        f"<{name}><minimum>{low}</minimum><maximum>{high}</maximum><center>{centre}</center></{name}>"
        for name, (low, high, centre) in ranges.items()
    )
    calibration = f"<calibrationMode>{mode}</calibrationMode>" if mode else ""
    parallel = (
        f"<parallelImaging><accelerationFactor><kspace_encoding_step_1>{acceleration[0]}"
        f"</kspace_encoding_step_1><kspace_encoding_step_2>{acceleration[1]}"
        f"</kspace_encoding_step_2></accelerationFactor>{calibration}</parallelImaging>"
    )
    encoding = (
        f"<encoding>{spaces}<encodingLimits>{counters}</encodingLimits>"
        f"<trajectory>{trajectory}</trajectory>{parallel}</encoding>"
    )
    return (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        "<measurementInformation><measurementID>7</measurementID><patientPosition>HFS"
        "</patientPosition><protocolName>test</protocolName></measurementInformation>"
        "<experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz>"
        f"</experimentalConditions>{encoding * encodings}<sequenceParameters><TE>2.5</TE><TE>5"
        f"</TE></sequenceParameters>{extra}</ismrmrdHeader>"
    )


@dataclass
class Scan:
    """K-space `coils kz ky kx` (oversampled readout) and the acquisitions cut from it."""

    header: ScanHeader
    kspace: np.ndarray
    made: list[ismrmrd.Acquisition] = field(default_factory=list)

    @classmethod
    def of(cls, coils: int = 3, seed: int = 0, **options: object) -> "Scan":
        """A scan of noise-like k-space whose image is confined to the reconstructed field."""
        header = ScanHeader.from_xml(header_xml(**options))  # type: ignore[arg-type]
        nx, ny, nz = header.encodings[0].encoded.matrix
        return cls(header, random_kspace((coils, nz, ny, nx), nx // 2, seed))

    def line(self, ky: int, *flags: int, kz: int = 0, **fields: object) -> ismrmrd.Acquisition:
        """One readout. `scale` multiplies the data; other fields go to the header or its idx."""
        encoding = self.header.encodings[0]
        row = ky + encoding.encoded.matrix[1] // 2
        row -= encoding.limit("kspace_encoding_step_1").center
        scale = fields.pop("scale", 1)
        data = fields.pop("data", None)
        if data is None:
            data = scale * self.kspace[:, kz, row]
        acquisition = ismrmrd.Acquisition.from_array(
            np.ascontiguousarray(data, dtype=np.complex64),
            center_sample=fields.pop("center_sample", data.shape[1] // 2),
            sample_time_us=5.0,
            scan_counter=len(self.made),
            acquisition_time_stamp=100 + len(self.made),
            read_dir=(1.0, 0.0, 0.0),
            phase_dir=(0.0, 1.0, 0.0),
            slice_dir=(0.0, 0.0, 1.0),
        )
        acquisition.idx.kspace_encode_step_1 = ky
        acquisition.idx.kspace_encode_step_2 = kz
        for name, value in fields.items():
            target = acquisition.idx if hasattr(acquisition.idx, name) else acquisition
            setattr(target, name, value)
        for flag in flags:
            acquisition.set_flag(flag)
        self.made.append(acquisition)
        return acquisition

    def lines(self, rows: Sequence[int], last: Sequence[int] = (8,), **fields: object) -> list:
        """Readouts of several lines, the last of them with the flags `last`."""
        rows = list(rows)
        return [
            self.line(ky, *(last if i == len(rows) - 1 else ()), **fields)
            for i, ky in enumerate(rows)
        ]


def write_scan(scan: Scan, path: Path) -> None:
    """Write header and acquisitions as an ISMRMRD file."""
    with ismrmrd.Dataset(path, mode="w") as dataset:
        dataset.write_xml_header(scan.header.xml)
        for acquisition in scan.made:
            dataset.append_acquisition(acquisition)


def random_kspace(shape: tuple[int, ...], inside: int, seed: int = 0) -> np.ndarray:
    """Complex k-space whose image along the last axis lies in the central `inside` pixels."""
    rng = np.random.default_rng(seed)
    image = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    n = shape[-1]
    mask = np.zeros(n)
    mask[n // 2 - inside // 2 : n // 2 - inside // 2 + inside] = 1
    image = np.fft.ifftshift(image * mask, axes=-1)
    return np.fft.fftshift(np.fft.fft(image, axis=-1, norm="ortho"), axes=-1).astype(np.complex64)


def cropped(kspace: np.ndarray, size: int) -> np.ndarray:
    """Oversampling removal written another way: a dense Fourier sum, in double precision."""
    n = kspace.shape[-1]
    k, x = np.arange(n) - n // 2, np.arange(size) - size // 2
    to_image = np.exp(2j * np.pi * np.outer(k, x) / n) / np.sqrt(n)
    j = np.arange(size) - size // 2
    back = np.exp(-2j * np.pi * np.outer(x, j) / size) / np.sqrt(size)
    return kspace.astype(np.complex128) @ to_image @ back


def assemble(scan: Scan, **options: object) -> list:
    """All slices of a scan."""
    return list(SliceAssembler(scan.header, **options).assemble(scan.made))  # type: ignore[arg-type]


def expected(scan: Scan, rows: Sequence[int], kz: int = 0) -> np.ndarray:
    """K-space `coils ky kx` with only these rows filled."""
    nx, ny, _ = scan.header.encodings[0].recon.matrix
    out = np.zeros((scan.kspace.shape[0], ny, nx), np.complex128)
    rows = list(rows)
    out[:, rows] = cropped(scan.kspace[:, kz, rows], nx)
    return out


def close(actual: np.ndarray, wanted: np.ndarray) -> None:
    """The same k-space, but for rounding to single precision."""
    np.testing.assert_allclose(actual, wanted, atol=2e-5)


def numbers(slices: list, *names: str) -> list[tuple[int, ...]]:
    """Counters of slices, in their order."""
    return [tuple(s.counters[name] for name in names) for s in slices]
