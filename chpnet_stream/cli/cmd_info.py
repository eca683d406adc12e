"""`chpnet-stream info`: what a scan is, and whether it can be reconstructed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chpnet_stream.cli.formatter import show

if TYPE_CHECKING:
    from chpnet_stream.mrd.files import ScanFile
    from chpnet_stream.scan.summary import ScanSummary

TICK_S = 2.5e-3
"""One tick of acquisition_time_stamp (ISMRMRD leaves it to the vendor; Siemens counts 2.5 ms)."""


@click.command("info")
@click.argument("scan", metavar="IN.h5", type=click.Path(path_type=Path))
@click.option("--group", default="dataset", show_default=True, help="HDF5 group of the scan.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(scan: Path, group: str, as_json: bool) -> None:
    """Say what the scan IN.h5 is, and whether it can be reconstructed.

    Reads headers only, no samples, and prints nothing that names the patient. Exit code 0 if the
    scan can be reconstructed, 2 if not.
    """
    from chpnet_stream.errors import UnsupportedScanError
    from chpnet_stream.mrd.files import ScanFile
    from chpnet_stream.scan.summary import as_dict, summarise

    with ScanFile(scan, group) as file:
        summary = summarise(file)
        more = _more(file)
    if as_json:
        show({**as_dict(summary), **more}, title="", as_json=True)
    else:
        show(_rows(summary, more), title=f"Scan {scan.name}")
    if not summary.can_reconstruct:
        reasons = "; ".join(summary.problems)
        raise UnsupportedScanError(f"{scan} can't be reconstructed: {reasons}")


def _more(file: ScanFile) -> dict[str, Any]:
    """Facts of the header that `ScanSummary` does not hold, and the time between time stamps."""
    header = file.header
    stamps: list[int] = []
    for heads in file.heads():
        found = heads["acquisition_time_stamp"]
        told = found[found > 0]  # 0: nobody has set it, as in many a noise scan
        stamps += [int(part) for part in (told.min(), told.max())] if told.size else []
    return {
        "field_strength_t": header.field_strength_t,
        "sequence": header.sequence_type or header.measurement.get("sequenceName"),
        "te_ms": list(header.te_ms),
        "tr_ms": list(header.tr_ms),
        "ti_ms": list(header.ti_ms),
        "flip_angle_deg": list(header.flip_angle_deg),
        "scan_time_s": (max(stamps) - min(stamps)) * TICK_S if stamps else None,
        "waveform_names": [waveform.name for waveform in header.waveforms],
    }


def _rows(summary: ScanSummary, more: dict[str, Any]) -> dict[str, Any]:
    """The table: what a person asks first comes first, what is not there says so."""
    stated, net = summary.stated_acceleration, summary.net_acceleration
    calibration = (
        f"{summary.calibration_lines} lines, {summary.calibration_mode or 'mode not stated'}"
        if summary.calibration_lines
        else "none"
    )
    several = {name: count for name, count in summary.counters.items() if count > 1}
    rows: dict[str, Any] = {
        "protocol": summary.protocol,
        "scanner": summary.vendor,
        "field_strength_t": more["field_strength_t"],
        "sequence": more["sequence"],
        **{name: more[name] for name in ("te_ms", "tr_ms", "ti_ms") if more[name]},
        "trajectory": summary.trajectory,
        "encoded_matrix (x y z)": summary.encoded_matrix,
        "image_matrix (x y z)": summary.image_matrix,
        **_other_matrix(summary),
        "fov_mm": summary.recon_fov_mm,
        "coils": summary.coils,
        "acceleration": f"{summary.measured_acceleration} measured, {stated} stated, "
        f"{net:.3g} with calibration lines",
        "lines in a slice": summary.image_lines,
        "calibration": calibration,
        "noise scan": f"{summary.noise_samples} samples" if summary.noise_samples else "none",
        "readout oversampling": summary.oversampling,
        "partial Fourier": _share(summary.partial_fourier),
        "phase resolution": _share(summary.phase_resolution),
        "echo": _share(summary.echo_fraction),
        "reversed readouts": summary.reversed_lines,
        "counters": several or "one of each",
        "scan_time_s": more["scan_time_s"],
        "acquisitions": summary.acquisitions,
        "flags of acquisitions": [
            f"{name}: {count}" for name, count in summary.flag_counts.items()
        ],
        "waveforms": _waveforms(summary, more),
        "ISMRMRD version": summary.ismrmrd_version,
    }
    if summary.notes:
        rows["tolerated"] = summary.notes
    rows["can be reconstructed"] = summary.can_reconstruct
    if summary.problems:
        rows["because"] = summary.problems
    return rows


def _other_matrix(summary: ScanSummary) -> dict[str, Any]:
    """What the header asks for, where images have other pixels."""
    from chpnet_stream.mrd.header import OTHER_MATRIX

    if summary.image_matrix == summary.recon_matrix:
        return {}
    wanted = " x ".join(map(str, summary.recon_matrix))
    return {"reconSpace (x y z)": f"{wanted}; {OTHER_MATRIX}"}


def _waveforms(summary: ScanSummary, more: dict[str, Any]) -> str:
    if not summary.waveforms:
        return "none"
    names = ", ".join(more["waveform_names"])
    return f"{summary.waveforms} ({names})" if names else str(summary.waveforms)


def _share(fraction: float) -> str:
    return "full" if fraction >= 1 else f"{fraction:.0%}"
