"""The header of a scan in plain values, without anything of the patient."""

from __future__ import annotations

from typing import Any

from chpnet_stream.mrd.header import Encoding, ScanHeader

FRAMES = ("contrast", "phase", "repetition", "set")

PATIENT = {
    "patientName": "name",
    "patientID": "id",
    "patientBirthdate": "birth date",
    "patientGender": "sex",
    "patientWeight_kg": "weight kg",
    "patientHeight_m": "height m",
}


LONGEST_TEXT = 500
MOST_VALUES = 256
"""Characters of a text, and entries of a list, that are taken: a header may be of 16 MiB."""

WAVEFORMS = ("ecg", "pulse", "respiratory", "trigger", "gradientwaveform", "other")
"""What ISMRMRD's schema knows."""


def header_view(header: ScanHeader) -> dict[str, Any]:
    """What may be shown and logged of a header: a list of what is taken, not of what is left out.

    Protocol and sequence names are free text of whoever made them. Of subjectInformation and
    studyInformation nothing is taken, nor dates, numbers and places of the measurement.
    """
    encoding = told_encoding(header)
    view: dict[str, Any] = {
        "protocol": header.protocol,
        "sequence": header.sequence_type or "",
        "vendor": header.system.get("systemVendor", ""),
        "system": header.system.get("systemModel", ""),
        "field_strength_t": header.field_strength_t,
        "coils": header.receiver_channels,
        "patient_position": header.patient_position,
        "te_ms": list(header.te_ms),
        "tr_ms": list(header.tr_ms),
        "ti_ms": list(header.ti_ms),
        "flip_angle_deg": list(header.flip_angle_deg),
        "waveforms": [w.type if w.type in WAVEFORMS else "other" for w in header.waveforms],
        "notes": list(header.notes),
    }
    if encoding is not None:
        view |= {
            "trajectory": encoding.trajectory,
            "encoded_matrix": list(encoding.encoded.matrix),
            "image_matrix": list(encoding.image_matrix),
            "recon_matrix": list(encoding.recon.matrix),
            "recon_fov_mm": list(encoding.recon.field_of_view_mm),
            "acceleration": list(encoding.acceleration),
            "calibration": encoding.calibration_mode,
        }
    return {name: _short(value) for name, value in view.items()}


def expected_counts(header: ScanHeader) -> dict[str, int]:
    """What the encoding limits promise: values of every counter, images and lines.

    Lines are those of the undersampled lattice: calibration lines come on top where they are
    embedded or separate, and a scan may measure less than its limits allow.
    """
    encoding = told_encoding(header)
    if encoding is None:
        return {}
    partitions = encoding.cropped(2) if encoding.is_3d else 1
    found = {"slice": max(encoding.limit("slice").count, 1) * partitions}
    found |= {name: max(encoding.limit(name).count, 1) for name in FRAMES}
    images = found["slice"]
    for name in FRAMES:
        images *= found[name]
    lines = max(encoding.limit("kspace_encoding_step_1").count, 1)
    lines = -(-lines // max(encoding.acceleration[0], 1))
    averages = max(encoding.limit("average").count, 1)
    kz = max(encoding.limit("kspace_encoding_step_2").count, 1) if encoding.is_3d else 1
    found["images"] = images
    found["lines"] = images // partitions * lines * kz * averages
    return found


def patient_view(header: ScanHeader) -> dict[str, str]:
    """What the header says of the patient; only for those who have asked for it."""
    from chpnet_stream.mrd.header_xml import subject

    told = subject(header.xml)
    return {name: _short(told[key]) for key, name in PATIENT.items() if told.get(key)}


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    return [_short(one) for one in value[:MOST_VALUES]] if isinstance(value, list) else value


def told_encoding(header: ScanHeader) -> Encoding | None:
    """The encoding that can be reconstructed, else the first."""
    fit = [e for e in header.encodings if not e.problems()]
    return next(iter([*fit, *header.encodings]), None)
