"""Meta that images of Gadgetron's own reconstructions have, and that its later gadgets may read."""

from __future__ import annotations

from typing import Any

from chpnet_stream.mrd.header import Encoding, ScanHeader


def gadgetron_meta(
    header: ScanHeader, encoding: Encoding, image: Any, time_stamps: tuple[int, int]
) -> dict[str, str | list[str]]:
    """Geometry, time stamps and user fields as Gadgetron's generic reconstructions name them.

    Observed of Gadgetron 4.7.2. Left out on purpose: patientID (an image needs none of it),
    gadgetron_sha1 (ours is no build of Gadgetron) and what is empty. `PatientPosition` is the
    position of the image there; how the patient lies is `patient_position`.

    Args:
        header: The scan's header.
        encoding: The encoding that the image belongs to.
        image: An `ismrmrd.Image`, its header filled in.
        time_stamps: The smallest and largest acquisition_time_stamp of its lines, in ticks.
    """
    values: dict[str, str | list[str]] = {
        "GADGETRON_ScaleRatio": "1",
        "PatientPosition": _numbers(image.position),
        "acquisition_time_stamp": str(image.acquisition_time_stamp),
        "acquisition_time_range": [str(t) for t in time_stamps],
        "physiology_time_stamp": _numbers(image.physiology_time_stamp),
    }
    for name in ("patient_table_position", "read_dir", "phase_dir", "slice_dir"):
        values[name] = _numbers(getattr(image, name))
    columns = encoding.cropped(0)
    values["sampling_limits_RO"] = _numbers((0, columns // 2, columns - 1))
    for axis, name in ((1, "kspace_encoding_step_1"), (2, "kspace_encoding_step_2")):
        limit = encoding.limit(name)
        size = encoding.encoded.matrix[axis]
        shift = encoding.first_row(axis) if size > 1 else 0
        limits = (limit.minimum + shift, size // 2, limit.maximum + shift)
        values[f"sampling_limits_E{axis}"] = _numbers(limits)
    for i in range(8):
        values[f"user_int_{i}"] = str(image.user_int[i])
        values[f"user_float_{i}"] = f"{image.user_float[i]:g}"
    for name, source in (("deviceID", header.system), ("studyID", header.study)):
        if source.get(name):
            values[name] = source[name]
    return values


def _numbers(values: Any) -> list[str]:
    return [f"{v:.8g}" if isinstance(v, float) else str(v) for v in values]
