"""Taking lines away from a fully sampled slice, to see what a shorter scan would have given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chpnet_stream.errors import InconsistentScanError
from chpnet_stream.scan.slices import Slice


def is_fully_sampled(data: Slice) -> bool:
    """Whether every line between the first and the last was measured, and nearly all there are."""
    lines = np.flatnonzero(data.sampled)
    if lines.size <= 0.9 * len(data.sampled):
        return False
    return bool(lines.size == lines[-1] - lines[0] + 1)


def undersample(data: Slice, acceleration: int, calibration_lines: int = 24) -> Slice:
    """Keep every `acceleration`-th line, from line 0 on, and the lines around the centre.

    Args:
        data: A fully sampled slice.
        acceleration: Distance of the lines that are kept.
        calibration_lines: Lines kept around the k-space centre; the coil maps come from them.

    Returns:
        A slice as a scan with these lines would have given it.

    Raises:
        InconsistentScanError: If the slice is not fully sampled.
    """
    if not is_fully_sampled(data):
        measured = int((data.sampled > 0).sum())
        raise InconsistentScanError(
            f"slice {data.counters['slice']} has {measured} of {len(data.sampled)} lines, expected "
            "all of them in order to undersample; leave out --undersample"
        )
    lines = len(data.sampled)
    start = lines // 2 - calibration_lines // 2
    calibrated = np.zeros(lines, dtype=bool)
    calibrated[max(start, 0) : start + calibration_lines] = True
    kept = calibrated.copy()
    kept[::acceleration] = True
    return replace(
        data,
        kspace=data.kspace * kept[None, :, None],
        sampled=np.where(kept, data.sampled, 0),
        calibration=data.kspace * calibrated[None, :, None],
        calibrated=calibrated & (data.sampled > 0),
        calibration_version=-1 - data.calibration_version,
    )
